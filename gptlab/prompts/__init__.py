"""Conversations as text, with the spans that are trained on."""
