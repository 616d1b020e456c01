#!/usr/bin/env python
"""Train and evaluate configs that differ in one setting: `signclip experiment ablate`."""

import sys

from mmpt.cli.experiment.ablate import main

if __name__ == "__main__":
    sys.exit(main())
