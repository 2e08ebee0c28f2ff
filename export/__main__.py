"""`python -m moedge.export ...` is `moedge export ...`."""

import sys

from moedge.runtime.cli import main

sys.exit(main(["export", *sys.argv[1:]]))
