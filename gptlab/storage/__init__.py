"""Files on disk, which may come from anybody."""
