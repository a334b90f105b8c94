"""``python -m unmask.cli``: what ``unmask compare`` starts its runs with."""

import sys

from unmask.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
