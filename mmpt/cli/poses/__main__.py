"""`python -m mmpt.cli.poses info|convert|compare`: the same as `signclip poses ...`."""

import sys

from mmpt.cli.main import main

sys.exit(main(["poses", *sys.argv[1:]]))
