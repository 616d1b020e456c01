"""Commands. A script becomes one with `sys.exit(run_cli(main))`.

Scripts import this package first, so that Ctrl-C during the other imports prints no traceback.
"""

import os

from mmpt.utils.errors import escape_unprintable, run_cli, show_interruptions_in_one_line

__all__ = ["run_cli"]

# OpenMP reads both when torch is imported. A waiting thread spins for 25 to 50 microseconds, about as long as
# it takes to wake one, and then sleeps. By default it spins for milliseconds, on cores that others may need:
# beside another busy process, an update of the demo would take ten times as long.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
show_interruptions_in_one_line()
escape_unprintable()
