"""Scaling laws: a loss as a function of parameters and tokens, fitted to a sweep's runs."""
