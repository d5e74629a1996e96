"""Tests of what training does to the weights."""
