"""The commands, and what makes a script one: `sys.exit(run_cli(main))`.

Scripts import this room before any other of ours: Ctrl-C while the others load has no traceback either.
"""

from mmpt.utils.errors import run_cli, show_interruptions_in_one_line

__all__ = ["run_cli"]

show_interruptions_in_one_line()
