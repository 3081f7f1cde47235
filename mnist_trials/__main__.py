"""`python -m mnist_trials`, the same as `mnist-trials`."""

from __future__ import annotations

import sys

from mnist_trials.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
