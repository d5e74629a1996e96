"""What each command does with a run."""
