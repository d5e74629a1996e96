"""Heads: hidden (B, T, D) -> a loss in training, predictions afterwards.

A head knows the model; the model does not know it, and neither knows the data.
"""
