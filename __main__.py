"""``python -m graphwright`` is the command line."""

import sys

from .tools.main import main

if __name__ == "__main__":
    sys.exit(main())
