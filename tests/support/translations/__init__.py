"""Translation pairs: a kind of data that gptlab has never heard of (for story/test_fifth_kind.py)."""
