#!/usr/bin/env python
"""Leave one sign language out: `signclip experiment leave-one-out`."""

import sys

from mmpt.cli.experiment.leave_one_out import main

if __name__ == "__main__":
    sys.exit(main())
