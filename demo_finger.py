#!/usr/bin/env python
"""Rank letters by their similarity to a clip: `signclip demo`."""

import sys

from mmpt.cli.demo import main

if __name__ == "__main__":
    sys.exit(main())
