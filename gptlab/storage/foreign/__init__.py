"""Files and folders that gptlab does not read: what they are, and what to do with them."""
