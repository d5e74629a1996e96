"""Documents -> a cleaned corpus on disk -> windows of tokens."""
