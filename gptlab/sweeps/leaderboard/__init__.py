"""The answer of a sweep: its rows, what is known about the best one, files and a picture."""
