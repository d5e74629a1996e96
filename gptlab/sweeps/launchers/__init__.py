"""Launchers: how the jobs of a sweep run side by side."""
