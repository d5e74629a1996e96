"""A search: trials whose values are chosen by the results of those before them."""
