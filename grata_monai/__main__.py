"""``python -m grata_monai``: the command line of `grata_monai.cli`."""

import sys

from grata_monai.cli import main

if __name__ == "__main__":
    sys.exit(main())
