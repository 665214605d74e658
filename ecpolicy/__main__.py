"""``python -m ecpolicy``: the command line."""

import sys

from ecpolicy.cli import main

sys.exit(main())
