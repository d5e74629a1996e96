"""Overrides -> configuration -> objects."""
