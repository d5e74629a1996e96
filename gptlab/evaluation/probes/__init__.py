"""Multiple-choice and last-word questions made from a held-out text.

They measure the understanding of a small model without a download. They are about words where the text has words
between blanks, and else about tokens.
"""
