"""Callbacks that draw: pictures of predictions, sample texts and attention."""
