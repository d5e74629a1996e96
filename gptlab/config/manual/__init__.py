"""What a person reads about commands, groups and keys."""
