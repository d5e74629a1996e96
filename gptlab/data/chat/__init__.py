"""Conversations and preference pairs -> rows."""
