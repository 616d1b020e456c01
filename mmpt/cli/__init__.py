"""Commands. A script becomes one with `sys.exit(run_cli(main))`.

Scripts import this package first, so that Ctrl-C during the other imports prints no traceback.
"""

from mmpt.utils.errors import escape_unprintable, run_cli, show_interruptions_in_one_line

__all__ = ["run_cli"]

show_interruptions_in_one_line()
escape_unprintable()
