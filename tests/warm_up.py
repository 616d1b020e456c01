"""What the server of tests.commands imports before it forks, with the imports of a first use.

No autograd, which does not survive a fork.
"""

import contextlib
import io
import tempfile
from pathlib import Path

import torch

from mmpt.cli.train import main
from mmpt.models import load_tokenizer
from tests.conftest import NO_FAIRSEQ, ROOT, write_tiny

if not NO_FAIRSEQ:
    pass

torch.set_num_threads(1)
with (
    tempfile.TemporaryDirectory() as _folder,
    contextlib.redirect_stderr(io.StringIO()),
    contextlib.redirect_stdout(io.StringIO()),
):
    main([str(write_tiny(Path(_folder), ROOT / "tests" / "data", Path(_folder))), "--print-fairseq"])
load_tokenizer(str(ROOT / "tests" / "data" / "mmfusion" / "bert"))
load_tokenizer.cache_clear()
