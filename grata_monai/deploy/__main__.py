"""``python -m grata_monai.deploy``: see `grata_monai.hosts.deploy`."""

import sys

from grata_monai.cli import main

if __name__ == "__main__":
    sys.exit(main(["deploy", *sys.argv[1:]]))
