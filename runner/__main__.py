"""`python -m kpod.runner` is `kpod`."""

import sys

from kpod.runner.cli import main

sys.exit(main())
