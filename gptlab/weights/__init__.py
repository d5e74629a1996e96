"""Files of weights to tensors and back. Names of other people's checkpoints live in names.py alone."""
