"""Labelled texts -> rows."""
