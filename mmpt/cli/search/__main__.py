"""The former `python -m mmpt.cli.search build|query|info`."""

import sys

from mmpt.cli.main import main

sys.exit(main(["search", *sys.argv[1:]]))
