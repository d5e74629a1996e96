"""Files on disk, trusted or not."""
