"""``python -m grata_monai.hosts.deploy``: a MAP's entry point, the same as the command `deploy`."""

import sys

from grata_monai.cli import main

if __name__ == "__main__":
    sys.exit(main(["deploy", *sys.argv[1:]]))
