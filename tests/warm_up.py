"""What the server of tests.commands imports before it forks, with the imports of a first use.

No autograd, which does not survive a fork.
"""

import contextlib
import gc
import importlib
import io
import sys
import tempfile
from pathlib import Path

import torch

from mmpt.cli.train import main
from mmpt.models import load_tokenizer
from mmpt.processors.fingerspelling import find_lexicon, read_index
from mmpt.training.run import preflight, prepare
from tests.conftest import ROOT, write_tiny

torch.set_num_threads(1)
with (
    tempfile.TemporaryDirectory() as _folder,
    contextlib.redirect_stderr(io.StringIO()),
    contextlib.redirect_stdout(io.StringIO()),
):
    _config = write_tiny(Path(_folder), ROOT / "tests" / "data", Path(_folder))
    main([str(_config), "--print-fairseq"])
    IMPORTED = frozenset(sys.modules)
    """What fairseq and our part of it import."""
    preflight(prepare(str(_config)))
for _name in ("matplotlib.pyplot", "sklearn.svm", "sklearn.linear_model"):  # after fairseq, which defers it
    importlib.import_module(_name)
read_index(find_lexicon(None))
load_tokenizer(str(ROOT / "tests" / "data" / "mmfusion" / "bert"))
load_tokenizer.cache_clear()
gc.freeze()  # of what all commands share, nothing is garbage
gc.enable()
