"""Overrides to configuration to objects."""
