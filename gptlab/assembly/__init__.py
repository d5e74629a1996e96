"""Assembly of a run: what `run.py` needs beside itself."""
