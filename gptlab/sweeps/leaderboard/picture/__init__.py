"""The picture of a sweep."""
