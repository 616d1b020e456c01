"""The former name of `python -m mmpt.cli.evaluate TASKCONFIG [key=value ...]`; use that command."""

import sys

from mmpt.cli.evaluate import main

__all__ = ["main"]

if __name__ == "__main__":
    print("mmpt.cli.predict is deprecated: use signclip evaluate", file=sys.stderr)
    sys.exit(main())
