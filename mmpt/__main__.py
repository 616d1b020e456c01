"""`python -m mmpt COMMAND` is `signclip COMMAND`."""

import sys

from mmpt.cli.main import main

sys.exit(main())
