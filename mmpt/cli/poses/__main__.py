"""The module form of `signclip poses info|convert|compare`."""

import sys

from mmpt.cli.main import main

sys.exit(main(["poses", *sys.argv[1:]]))
