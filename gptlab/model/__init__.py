"""The GPT: ids (B, T) -> hidden (B, T, D).

It imports torch only, and holds no loss, optimizer, configuration or text.
"""
