"""The workflows behind commands that use a run."""
