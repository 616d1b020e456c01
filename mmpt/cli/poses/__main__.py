"""`signclip poses info|compare|convert` as a module."""

import sys

from mmpt.cli.main import main

sys.exit(main(["poses", *sys.argv[1:]]))
