"""hidden (B, T, D) -> a loss while learning, answers afterwards. Heads know the model, and neither knows the data."""
