"""The page of `gptlab inspect`: what it holds, and how it becomes one file."""
