"""What lies on disk: files that may come from anybody, and how they are read."""
