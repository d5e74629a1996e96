"""python -m gptlab <verb> ..."""

import sys

from gptlab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
