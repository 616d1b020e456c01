"""The module form of `signclip table from-subtitles|from-elan|from-folders`."""

import sys

from mmpt.cli.main import main

sys.exit(main(["table", *sys.argv[1:]]))
