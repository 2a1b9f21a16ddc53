"""`python -m handful_client` is the command `handful`."""

import sys

from handful_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
