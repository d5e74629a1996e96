"""Translation pairs: a kind of data from outside gptlab (for story/test_fifth_kind.py)."""
