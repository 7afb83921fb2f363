"""``python -m grata_monai.deploy``: the entry point of a MAP, the same as the command `deploy`."""

import sys

from grata_monai.cli import main

if __name__ == "__main__":
    sys.exit(main(["deploy", *sys.argv[1:]]))
