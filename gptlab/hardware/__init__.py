"""Devices: their precision, memory, compiler and peak throughput."""
