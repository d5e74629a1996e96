"""ids (B, T) -> hidden (B, T, D).  Torch only: no loss, no optimizer, no configuration, no text."""
