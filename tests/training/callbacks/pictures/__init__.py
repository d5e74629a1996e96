"""Tests of the callbacks that draw."""
