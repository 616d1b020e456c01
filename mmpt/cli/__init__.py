"""Commands. A script becomes one with `sys.exit(run_cli(main))`.

Scripts import this package first, so that Ctrl-C during the other imports prints no traceback.
"""

import os

from mmpt.utils.errors import escape_unprintable, run_cli, show_interruptions_in_one_line

__all__ = ["run_cli"]

# OpenMP reads it when torch is imported. Threads that spin while they wait hold the cores that others need:
# beside another busy process, an update of the demo would take ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
show_interruptions_in_one_line()
escape_unprintable()
