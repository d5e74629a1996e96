"""Paths, downloads, archives and records: where data comes from."""
