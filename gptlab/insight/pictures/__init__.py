"""Drawing: arrays and texts to pictures, (height, width, 3) uint8."""
