"""``python -m tools.compliance``: generated pages and the bill of materials, in a checkout."""

import sys

from tools.compliance.command import main

if __name__ == "__main__":
    sys.exit(main())
