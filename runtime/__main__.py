"""`python -m moedge.runtime VERB ...` is `moedge VERB ...`."""

import sys

from moedge.runtime.cli import main

sys.exit(main())
