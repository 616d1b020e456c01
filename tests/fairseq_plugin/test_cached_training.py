"""`loss.cached_chunk` through real training runs: the weights are those of a run without it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fairseq.data.iterators import EpochBatchIterator
from fairseq.distributed import ModuleProxyWrapper
from torch import nn

from mmpt.fairseq_plugin.criterion import MMCriterion
from mmpt.fairseq_plugin.dataset import FairseqMMDataset
from mmpt.fairseq_plugin.task import FairseqMMTask
from mmpt.losses import MMContraLoss
from mmpt.training import prepare
from mmpt.training.non_finite import NonFinite
from mmpt.training.validation import ValidationRetrieval
from mmpt.utils.checkpoint import load_state_dict_file
from mmpt.utils.errors import UserError
from tests.commands import train_runs
from tests.conftest import run_module
from tests.losses.linear_towers import LinearTowers, make_batch


@pytest.fixture
def without_dropout(tiny_yaml: Path, data_dir: Path, tmp_path: Path) -> Path:
    """The tiny config with a BERT that drops nothing, so that two ways of training can be compared."""
    bert = tmp_path / "bert"
    shutil.copytree(data_dir / "mmfusion" / "bert", bert)
    settings = json.loads((bert / "config.json").read_text())
    settings |= {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    (bert / "config.json").write_text(json.dumps(settings))
    tiny_yaml.write_text(tiny_yaml.read_text().replace(str(data_dir / "mmfusion" / "bert"), str(bert)))
    return tiny_yaml


def run_of(config: Path, folder: Path, *overrides: str) -> list[str]:
    return [
        str(config),
        *overrides,
        f"fairseq.checkpoint.save_dir={folder}",
        "fairseq.optimization.adam_eps=1e-4",  # smaller, Adam makes steps of gradients that are rounding only
    ]


def same(one: Path, other: Path) -> bool:
    first, second = (load_state_dict_file(folder / "checkpoint_last.pt") for folder in (one, other))
    assert first.keys() == second.keys()
    return all(torch.allclose(first[key], second[key], rtol=1e-4, atol=1e-5) for key in first)


@pytest.mark.slow
def test_a_run_ends_with_the_weights_of_an_uncached_one(without_dropout: Path, tmp_path: Path) -> None:
    """Batches of 6 by 4 and 2, added up over two batches an update, with a learnt temperature."""
    options = [
        "loss.similarity=cosine",
        "loss.temperature=0.2",
        "loss.learnable_temperature=true",
        "fairseq.dataset.batch_size=6",
        "fairseq.optimization.update_freq=[2]",
        "fairseq.optimization.max_epoch=2",
    ]
    runs = {"plain": [], "cached": ["loss.cached_chunk=4"], "alone": ["fairseq.dataset.batch_size=3"]}
    commands = [run_of(without_dropout, tmp_path / name, *options, *more) for name, more in runs.items()]
    done = train_runs(commands)
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "plain", tmp_path / "cached")
    assert not same(tmp_path / "plain", tmp_path / "alone")  # fewer negatives: something else is learnt


@pytest.mark.slow
def test_two_processes_train_as_one_on_the_whole_batch(without_dropout: Path, tmp_path: Path) -> None:
    """Batches of six, or two processes' batches of three, contrasted over all six; and the same by chunks of
    two."""
    halves = ["--jobtype", "local_small", "loss.gather=true", "fairseq.dataset.batch_size=3"]
    runs = {
        "one": ["fairseq.dataset.batch_size=6"],
        "two": halves,
        "cached": [*halves, "loss.cached_chunk=2"],
        "apart": [option for option in halves if "gather" not in option],
    }
    for name, more in runs.items():
        arguments = run_of(without_dropout, tmp_path / name, *more, "fairseq.optimization.max_epoch=3")
        done = run_module("locallaunch.py", *arguments)
        assert done.returncode == 0, done.stderr
    assert same(tmp_path / "one", tmp_path / "two")
    assert same(tmp_path / "one", tmp_path / "cached")
    assert not same(tmp_path / "one", tmp_path / "apart")


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [[], ["loss.cached_chunk=2"]])
def test_two_processes_go_on_where_one_has_a_batch_more(
    without_dropout: Path, tmp_path: Path, chunks: list[str]
) -> None:
    """Three batches of four clips: fairseq repeats one for the second process, another after a restart."""
    options = [
        "loss.gather=true",
        "loss.label_aware=true",
        "dataset.train_languages=[svk,ise]",
        "fairseq.dataset.batch_size=5",
        *chunks,
    ]
    for name, epochs in (("whole", 2), ("halves", 1), ("halves", 2)):
        arguments = run_of(without_dropout, tmp_path / name, *options)
        done = run_module(
            "locallaunch.py",
            *arguments,
            "--jobtype",
            "local_small",
            f"fairseq.optimization.max_epoch={epochs}",
        )
        assert done.returncode == 0, done.stderr
    assert "epoch 1" not in done.stderr
    assert same(tmp_path / "whole", tmp_path / "halves")


class Towers(LinearTowers):
    def set_num_updates(self, number: int) -> None:  # fairseq's models have it
        self.updates = number


class Plain:
    """An optimizer's backward."""

    def __init__(self, model: nn.Module):
        self.params = list(model.parameters())

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()


def sample_of(clips: int) -> dict[str, Any]:
    batch = make_batch(clips)
    return {**batch, "label": batch.pop("labels")}


def step(
    chunk: int | None,
    ignore_grad: bool = False,
    mixup: float = 0.0,
    gather: bool = False,
    filler: bool = False,
) -> tuple[Any, list[torch.Tensor], list[int]]:
    """What a step of the task returns, the gradients it leaves, how many clips the model saw at a time."""
    torch.manual_seed(0)
    task = FairseqMMTask.__new__(FairseqMMTask)
    loss_cfg = SimpleNamespace(cached_chunk=chunk, mixup=mixup, gather=gather)
    task.mmtask = SimpleNamespace(build_loss=MMContraLoss, config=SimpleNamespace(loss=loss_cfg))
    task.non_finite = NonFinite(0)
    model, sizes = Towers(), []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    sample = {**sample_of(10), "filler": filler}
    if mixup:  # it asks for clips of one length
        sample["vmasks"][:] = True
    result = task.train_step(sample, model, MMCriterion(task), Plain(model), 3, ignore_grad)
    return result, [parameter.grad for parameter in model.parameters()], sizes


def test_a_step() -> None:
    (loss, size, logged), gradients, seen = step(None)
    (cached_loss, cached_size, cached_log), cached_gradients, cached_seen = step(4)
    assert (seen, cached_seen) == ([10], [4, 4, 2] * 2)
    assert step(10)[2] == [10]  # it fits: no second pass
    torch.testing.assert_close(cached_loss, loss.detach())
    torch.testing.assert_close(cached_gradients, gradients)
    assert cached_size == size and cached_log.keys() == logged.keys()
    assert {**cached_log, "loss": 0} == {**logged, "loss": 0}
    torch.testing.assert_close(cached_log["loss"], logged["loss"])
    # fairseq fills the shards of several processes up with batches that must not count
    assert all(not gradient.any() for gradient in step(4, ignore_grad=True)[1])


class Clips:
    """An MMDataset of five clips in given batches."""

    text_processor = SimpleNamespace(pad_id=0)
    epoch = 1

    def __init__(self, batches: list[list[int]]):
        self._batches = batches

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, Any]:
        frame, token = np.zeros((1, 6)), np.zeros(1, dtype=int)
        side = {"vfeats": frame, "vmasks": frame[:, 0] == 0, "caps": token, "cmasks": token == 0}
        return {**side, "label": index, "index": index}

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self[index] for index in indices]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def batches(self, batch_size: int, epoch: int, processes: int) -> list[list[int]]:
        return self._batches


@pytest.mark.parametrize(
    "batches, expected",
    [
        ([[0, 1], [2, 3], [4]], [[[0, 1], [4]], [[2, 3], None]]),  # fairseq fills up
        ([[0], [], [1, 2], [3, 4]], [[[0], [1, 2]], [None, [3, 4]]]),  # an empty part of a common batch
    ],
)
def test_what_fairseq_fills_up_with_is_known(
    batches: list[list[int]], expected: list[list[list[int] | None]]
) -> None:
    """Batches for two processes, of which one has a batch less: what it gets instead is marked."""
    dataset = FairseqMMDataset(Clips(batches))  # type: ignore[arg-type]
    for process, of_process in enumerate(expected):
        epochs = EpochBatchIterator(
            dataset, dataset.collater, dataset.batches(2), num_shards=2, shard_id=process
        )
        found = list(epochs.next_epoch_itr(shuffle=False))
        assert all(len(sample["label"]) for sample in found)
        assert [None if sample["filler"] else sample["index"].tolist() for sample in found] == of_process


@pytest.mark.parametrize("chunk", [None, 4])
def test_a_filler_counts_for_nothing(chunk: int | None) -> None:
    (loss, size, logged), gradients, _ = step(chunk, filler=True)
    assert (float(loss.detach()), size) == (0, 0)
    assert all(not value for value in logged.values())
    assert all(not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("gather, candidates", [(False, 10), (True, 0)])
def test_clips_of_a_filler_are_nobodys_candidates(gather: bool, candidates: int) -> None:
    """In validation as well, and where fairseq has wrapped the loss, as it does with one that learns."""
    seen = []

    class Loss(MMContraLoss):
        def forward(self, video: torch.Tensor, *others: Any) -> torch.Tensor:
            seen.append(len(video))
            return video.sum()

    task = FairseqMMTask.__new__(FairseqMMTask)
    loss_cfg = SimpleNamespace(mixup=0.0, gather=gather)
    task.mmtask = SimpleNamespace(build_loss=Loss, config=SimpleNamespace(loss=loss_cfg))
    task._retrieval = ValidationRetrieval("dot", batches=1)
    sample = {**sample_of(10), "index": torch.arange(10), "filler": True}
    criterion = ModuleProxyWrapper(Wrapper(MMCriterion(task)))
    task.valid_step(sample, Towers(), criterion)
    assert seen == [candidates]


class Wrapper(nn.Module):
    """As DistributedDataParallel holds a module."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.module(*inputs, **options)


@pytest.mark.slow
def test_fillers_count_for_nothing_whatever_the_loss(tiny_yaml: Path, tmp_path: Path) -> None:
    """Five batches for two processes, and three to validate: a learnt temperature that does not move yet
    gives the losses of a fixed one."""
    options = [
        "--jobtype",
        "local_small",
        "loss.gather=true",
        "loss.label_aware=true",
        "dataset.batch_sampler=random",
        "fairseq.dataset.batch_size_valid=2",
        "fairseq.optimization.lr=[1.0e-20]",
        "fairseq.optimization.max_epoch=1",
    ]
    told = []
    for learnt in ("true", "false"):
        done = run_module(
            "locallaunch.py",
            str(tiny_yaml),
            *options,
            f"loss.learnable_temperature={learnt}",
            f"fairseq.checkpoint.save_dir={tmp_path}/{learnt}",
        )
        assert done.returncode == 0, done.stderr
        told += [line.split(" | ")[1:3] for line in done.stderr.splitlines() if " epoch 1 " in line]
    assert len(told) == 2 and told[0] == told[1]


@pytest.mark.slow
def test_batches_of_an_update_count_alike_on_any_process(without_dropout: Path, tmp_path: Path) -> None:
    """Three batches in one update: of one process, or of two of which one has a batch less."""
    options = [
        "dataset.train_languages=[svk,ise]",
        "fairseq.dataset.batch_size=5",
        "fairseq.optimization.optimizer=sgd",  # Adam would hide a factor
        "fairseq.optimization.adam_betas=null",
        "fairseq.optimization.lr=[0.1]",
        "fairseq.optimization.clip_norm=0",
        "fairseq.optimization.warmup_updates=0",
        "fairseq.optimization.max_epoch=1",
    ]
    runs = {
        "one": ["fairseq.optimization.update_freq=[4]"],
        "two": ["fairseq.optimization.update_freq=[2]", "--jobtype", "local_small"],
    }
    for name, more in runs.items():
        folder = f"fairseq.checkpoint.save_dir={tmp_path}/{name}"
        done = run_module("locallaunch.py", str(without_dropout), *options, *more, folder)
        assert done.returncode == 0, done.stderr
    assert same(tmp_path / "one", tmp_path / "two")


def test_with_mixup() -> None:
    """Clips of different chunks are mixed as well."""
    plain, cached = step(None, mixup=0.4), step(4, mixup=0.4)
    torch.testing.assert_close(cached[0][0], plain[0][0].detach())
    torch.testing.assert_close(cached[1], plain[1])
    assert not torch.allclose(step(4)[0][0], cached[0][0])


@pytest.mark.parametrize(
    "overrides, legacy",
    [
        ([], False),
        (["loss.cached_chunk=2"], False),
        (["loss.learnable_temperature=true"], False),
        (["loss.cached_chunk=2", "loss.learnable_temperature=true"], True),
        (["loss.cached_chunk=2", "loss.loss_cls=MMSigmoidLoss"], True),
    ],
)
@pytest.mark.parametrize("asked", [[], ["fairseq.distributed_training.ddp_backend=pytorch_ddp"]])
def test_ddp_backend_of_a_cached_loss_with_parameters(
    tiny_yaml: Path, overrides: list[str], legacy: bool, asked: list[str]
) -> None:
    """torch's DDP does not average the gradients of a loss outside its model."""
    arguments = prepare(str(tiny_yaml), [*overrides, *asked]).argv
    assert ("legacy_ddp" in arguments) is legacy
    assert ("pytorch_ddp" in arguments) is (bool(asked) and not legacy)


def test_unsupported_options_of_cached_training(tiny_yaml: Path) -> None:
    prepare(str(tiny_yaml), ["fairseq.common.amp=true"])
    with pytest.raises(UserError, match="cannot be used with fairseq"):
        prepare(str(tiny_yaml), ["fairseq.common.amp=true", "loss.cached_chunk=2"])
