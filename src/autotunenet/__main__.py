"""``python -m autotunenet`` is the command ``autotunenet``."""

import sys

from autotunenet.cli import main

if __name__ == "__main__":
    sys.exit(main())
