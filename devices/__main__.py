"""`python -m moedge.devices ...` is `moedge devices ...`."""

import sys

from moedge.runtime.cli import main

sys.exit(main(["devices", *sys.argv[1:]]))
