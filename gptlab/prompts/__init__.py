"""Prompt styles: conversations as text, with the trained spans."""
