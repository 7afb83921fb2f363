"""The entry point of the MAP: holoscan-cli's images start the folder /opt/holoscan/app.

The package grata_monai lies beside this file there.
"""

import sys

from grata_monai.cli import main

if __name__ == "__main__":
    sys.exit(main(["deploy", *sys.argv[1:]]))
