"""`loss.cached_chunk` through real training runs: the weights are those of a run without it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mmpt.config import load_config
from mmpt.fairseq_plugin.args import train_argv
from mmpt.fairseq_plugin.criterion import MMCriterion
from mmpt.fairseq_plugin.non_finite import NonFinite
from mmpt.fairseq_plugin.task import FairseqMMTask
from mmpt.losses import MMContraLoss
from mmpt.utils.checkpoint import load_state_dict_file
from mmpt.utils.errors import UserError
from tests.conftest import run_module
from tests.losses.linear_towers import LinearTowers, make_batch

#: trains in one process, one run after another: a JSON list of argument lists
RUNS = "import json, sys; from mmpt.cli.train import main; sys.exit(max(map(main, json.loads(sys.argv[1]))))"


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
    done = run_module("-c", RUNS, json.dumps(commands))
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
    chunk: int | None, ignore_grad: bool = False, mixup: float = 0.0, gather: bool = False
) -> tuple[Any, list[torch.Tensor], list[int]]:
    """What a step of the task returns, the gradients it leaves, how many clips the model saw at a time."""
    torch.manual_seed(0)
    task = FairseqMMTask.__new__(FairseqMMTask)
    loss_cfg = SimpleNamespace(cached_chunk=chunk, mixup=mixup, gather=gather)
    task.mmtask = SimpleNamespace(build_loss=MMContraLoss, config=SimpleNamespace(loss=loss_cfg))
    task.non_finite = NonFinite(0)
    model, sizes = Towers(), []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    sample = sample_of(10)
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


def test_what_fairseq_repeats_in_a_validation_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches for two processes: the last of the second is a repeated one."""
    out = {"pooled_video": torch.zeros(1, 2), "pooled_text": torch.zeros(1, 2)}
    monkeypatch.setattr("mmpt.fairseq_plugin.task.world_size", lambda: 2)
    for number, expected in ((0, [False, False]), (1, [False, True])):
        monkeypatch.setattr("mmpt.fairseq_plugin.task.rank", lambda number=number: number)
        task = FairseqMMTask.__new__(FairseqMMTask)
        task.args = SimpleNamespace(batch_size=2, batch_size_valid=None)
        task.datasets = {"valid": SimpleNamespace(batches=lambda size: [[0], [1], [2]])}
        seen = []

        def criterion(model: nn.Module, sample: dict[str, Any], seen: list[bool] = seen) -> tuple[int, ...]:
            seen.append(criterion.filler)
            return 0, 1, 2

        criterion.last_outputs = out
        task.begin_valid_epoch(1, None)
        for _ in range(2):
            task.valid_step({"index": torch.zeros(1), "label": torch.zeros(1)}, Towers(), criterion)
        assert seen == expected


def test_with_mixup() -> None:
    """Clips of different chunks are mixed as well."""
    plain, cached = step(None, mixup=0.4), step(4, mixup=0.4)
    torch.testing.assert_close(cached[0][0], plain[0][0].detach())
    torch.testing.assert_close(cached[1], plain[1])
    assert not torch.allclose(step(4)[0][0], cached[0][0])


def test_what_it_does_not_go_with(tiny_yaml: Path) -> None:
    for option, words in (
        ("fairseq.common.amp=true", "fairseq.common.amp"),
        ("fairseq.distributed_training.ddp_backend=fully_sharded", "fully_sharded"),
    ):
        for chunk in ("null", "2"):
            config = load_config(tiny_yaml, [option, f"loss.cached_chunk={chunk}"])
            if chunk == "null":
                train_argv(config, str(tiny_yaml), [])
                continue
            with pytest.raises(UserError, match=words):
                train_argv(config, str(tiny_yaml), [])
