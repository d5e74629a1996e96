"""Reading and writing of weight files.

Tensor names of published models live only in names.py.
"""
