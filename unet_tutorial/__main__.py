"""`python -m unet_tutorial`: the command line of cli."""

import sys

from unet_tutorial.cli import main

if __name__ == "__main__":
    sys.exit(main())
