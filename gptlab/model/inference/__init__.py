"""Weight layouts for inference only."""
