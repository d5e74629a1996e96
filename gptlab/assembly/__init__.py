"""The parts of a run, put together: everything that `run.py` needs beside itself."""
