"""`python -m moedge.edge_server ...` is `moedge serve ...`."""

import sys

from moedge.runtime.cli import main

sys.exit(main(["serve", *sys.argv[1:]]))
