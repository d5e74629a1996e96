"""Text generation: sampling, the cached loop and streaming.

The loop calls a step function on ids; only streaming knows text.
"""
