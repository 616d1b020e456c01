"""The patches of fairseq fit the fairseq that is installed, and all of them are listed."""

import hashlib
import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest
from fairseq import checkpoint_utils, trainer
from fairseq.data import iterators
from fairseq.file_io import PathManager
from fairseq.models import BaseFairseqModel
from fairseq.models.ema import ema
from fairseq.optim import OPTIMIZER_REGISTRY, adam, fairseq_optimizer
from fairseq.tasks.fairseq_task import FairseqTask
from fairseq_cli import train as fairseq_train

from mmpt.fairseq_plugin import patches
from mmpt.fairseq_plugin.optimizer import FairseqAdam
from mmpt.fairseq_plugin.trainer import MMTrainer

#: what the patches replace, override or copy the decisions of -> hash of its source in ve-fairseq 0.12.3
SOURCES = {
    fairseq_train.main: "2a1b822cd8f5",
    fairseq_train.train: "db4e58992bbc",
    fairseq_train.validate_and_save: "55091327efc0",
    fairseq_train.should_stop_early: "deb15b6c0cc2",
    checkpoint_utils.save_checkpoint: "61513534b9b3",
    checkpoint_utils.load_checkpoint: "08e4fa03a2ab",
    trainer.Trainer.load_checkpoint: "128800d64185",
    trainer.Trainer.state_dict: "926c314f7f55",
    trainer.Trainer.begin_epoch: "e51fdf9bf4bb",
    trainer.Trainer._build_ema: "17da6cc8eb7b",
    trainer.Trainer.clip_grad_norm: "637d588c4d2c",
    trainer.Trainer.get_train_iterator: "aa4fd14cf292",
    FairseqTask.get_batch_iterator: "f92ef89258f5",
    iterators.EpochBatchIterator: "a8432ac2414c",
    iterators.BackgroundConsumer: "08fbef31dfd5",
    iterators.BufferedIterator: "48ff1a85939f",
    ema.EMA: "522dab1f6072",
    fairseq_optimizer.FairseqOptimizer.multiply_grads: "ca8817df0879",
    adam.FairseqAdam.__init__: "68350e70f1a8",
    BaseFairseqModel.set_num_updates: "e00e50b24735",
}


def test_the_installed_fairseq_is_the_one_the_patches_were_written_for():
    assert importlib.metadata.version("ve-fairseq") == "0.12.3"


@pytest.mark.parametrize("function", SOURCES, ids=lambda f: f"{f.__module__}.{f.__qualname__}")
def test_the_source_of_what_is_patched_has_not_changed(function):
    source = inspect.getsource(inspect.unwrap(function))
    assert hashlib.sha256(source.encode()).hexdigest()[:12] == SOURCES[function], (
        "fairseq changed: compare mmpt/fairseq_plugin/trainer.py with it, then update the hash"
    )


def test_patches_are_installed_and_installing_twice_changes_nothing():
    for _ in range(2):
        assert fairseq_train.Trainer is MMTrainer and MMTrainer.__base__ is trainer.Trainer
        assert PathManager.copy is patches._copy
        assert OPTIMIZER_REGISTRY["adam"] is FairseqAdam
        assert FairseqAdam.__name__ == adam.FairseqAdam.__name__, "compared with the name in checkpoints"
        patches.install()


def test_nothing_of_fairseq_is_replaced_elsewhere():
    """No assignment to an attribute of a fairseq module or class outside patches.py."""
    folder = Path(patches.__file__).parent
    names = r"(fairseq\w*|checkpoint_utils|distributed_utils|PathManager|Trainer|adam|optim\w*|\w+Schedule)"
    for path in folder.glob("*.py"):
        found = re.findall(rf"^\s*{names}(\.\w+)+ = .*$", path.read_text(), flags=re.M)
        assert path.name == "patches.py" or not found, f"{path.name}: {found}"


def test_a_checkpoint_is_copied_in_one_step(tmp_path, monkeypatch):
    source, target = tmp_path / "a.pt", tmp_path / "b.pt"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    assert PathManager.copy(str(source), str(target), overwrite=True)
    assert target.read_bytes() == b"new" and not list(tmp_path.glob(".*"))

    def no_links(*names):
        raise OSError

    source.write_bytes(b"newer")
    monkeypatch.setattr("os.link", no_links)
    assert PathManager.copy(str(source), str(target), overwrite=True)
    assert target.read_bytes() == b"newer" and not target.samefile(source)
