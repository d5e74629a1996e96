"""Generation: ids -> ids -> text.

Sampling, the cached loop, streaming. The loop knows a step function and no text.
"""
