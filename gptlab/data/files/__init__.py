"""Paths, downloads, archives and record files."""
