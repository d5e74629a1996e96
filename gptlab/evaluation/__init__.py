"""Numbers about a trained run."""
