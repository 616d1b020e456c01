#!/usr/bin/env python
"""Run experiments and compare them with published numbers: `signclip experiment results`."""

import sys

from mmpt.cli.experiment.results import main

if __name__ == "__main__":
    sys.exit(main())
