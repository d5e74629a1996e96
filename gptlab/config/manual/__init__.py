"""Help pages of the commands, and hints for words that are not ours."""
