#!/usr/bin/env python
"""Train and evaluate task configs on this machine: `signclip train`."""

import sys

from mmpt.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
