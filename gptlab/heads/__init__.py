"""hidden (B, T, D) -> a loss while learning, answers afterwards.  Heads do not know the data; the model does not know them."""
