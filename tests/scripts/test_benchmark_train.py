"""The benchmarks of training and data: both sides do the same work, and the numbers add up."""

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmpt.losses import MMContraLoss
from mmpt.models import BertSettings
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json

SETTINGS = BertSettings(
    vocab_size=20000, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))


def trainer(way: str, dropout: bool = False) -> Any:
    from benchmarks.updates import Trainer, fresh_model, without_dropout

    model = fresh_model(SETTINGS, vfeat_dim=9, frames=40, video_layers=1)
    made = Trainer(model, MMContraLoss(), way, torch.device("cpu"), rate=1e-3)
    if not dropout:
        without_dropout(made.model)
    return made


@pytest.mark.parametrize("other", ["plain", "peer"])
def test_benchmark_train_ways_are_equal(other: str) -> None:
    from benchmarks.updates import PARTS, generated_batch

    batch = generated_batch(6, 40, 7, 9, vary=True)
    assert sorted(batch["vmasks"].sum(1).tolist())[0] == 1
    compared, packed = trainer(other), trainer("fp32")
    losses = [(compared.update(batch), packed.update(batch)) for _ in range(20)]
    assert max(abs(a - b) for a, b in losses) < 1e-4
    assert losses[-1][0] < losses[0][0] - 0.5  # it does learn
    assert set(packed.seconds) == set(PARTS)
    assert all(packed.seconds[part] > 0 for part in ("forward", "backward", "optimizer"))
    dropped = [trainer("fp32", dropout=True).update(batch), trainer("fp32", dropout=False).update(batch)]
    assert dropped[0] != dropped[1]


def test_benchmark_train_operations() -> None:
    """A product of n tokens by a weight is 2 operations a number, and twice that in the backward pass."""
    from benchmarks.updates import Products, generated_batch

    batch = generated_batch(6, 40, 7, 9, vary=True)
    layer = 4 * 16 * 16 + 2 * 16 * 32  # q, k, v, output; in and out of the feed-forward block
    frames, prompts = {"plain": 6 * 40, "fp32": int(batch["vmasks"].sum())}, 6 * 7
    for way, n in frames.items():
        tokens = (n + 6 * 2) + 2 * prompts  # [CLS] and [SEP] of each clip; two text layers
        least = 6 * layer * tokens
        assert least < trainer(way).flops([batch]) < 1.5 * least
        assert trainer(way).flops([batch, batch]) == 2 * trainer(way).flops([batch])
    products = Products("fp32", torch.device("cpu"))
    assert products.flops == products.times * 2 * len(products.matrix) ** 3


def test_benchmark_train_numbers_are_of_one_update(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import train
    from benchmarks.common import Taken
    from benchmarks.updates import generated_batch

    batch = generated_batch(6, 40, 7, 9, vary=True)
    run = trainer("fp32")
    monkeypatch.setattr(train, "clocked", lambda work: Taken(6.0, 4.0))
    runner = train.Runner(run, lambda: [run.update(batch) for _ in range(2)], lambda: [batch, batch])
    assert runner.update() == Taken(3.0, 2.0)
    assert runner.multiply() == Taken(6.0, 4.0)
    assert runner.flops == trainer("fp32").flops([batch])


def test_benchmark_train_padding() -> None:
    from benchmarks.updates import Trainer, fresh_model

    class Clips:
        class text_processor:
            pad_id = 0

        def __getitem__(self, i: int) -> dict[str, Any]:
            caps = np.array([101, 102, 1000 + i, 102])
            frames = np.full((3 + i, 9), i, dtype=np.float32)
            return {
                "vfeats": frames,
                "vmasks": np.ones(3 + i, bool),
                "caps": caps,
                "cmasks": caps > 0,
                "label": i,
            }

    for way, widths in (("plain", [(40, 12)] * 2), ("fp32", [(4, 4), (6, 4)])):
        model = fresh_model(SETTINGS, vfeat_dim=9, frames=40, video_layers=1)
        seen: list[tuple[int, int]] = []
        model.register_forward_pre_hook(
            lambda _, args, seen=seen: seen.append((args[0].shape[1], args[2].shape[1]))
        )
        run = Trainer(model, MMContraLoss(), way, torch.device("cpu"), rate=1e-3)
        assert len(run.epoch(Clips(), [[0, 1], [2, 3]], (40, 12))) == 2  # type: ignore[arg-type]
        assert seen == widths
        assert run.seconds["data"] > 0


def test_benchmark_data_store(tmp_path: Path) -> None:
    from benchmarks import data

    found = data._parsing(tmp_path, clips=3, repeats=1)
    assert found["clips"] == 3
    assert found["ratio"] > 0
    paths = data._paths(tmp_path, 40)
    store = data._open(tmp_path, paths)
    lengths = store.lengths
    assert len(store) == 40
    assert lengths.min() >= 6 and lengths.max() <= 258
    assert store[7].data.shape == (lengths[7], 21, 3)
    seconds, memory = data._read_all(tmp_path, 40)
    assert seconds > 0
    assert 0 < memory["before"] <= memory["peak"]


LAST_LINE = (
    r"train: (\d+\.\d\dx|not tried: emulated on this CPU) \(bf16\) "
    r"(\d+\.\d\d)x \(fp32\) against (peer|plain|fp32)"
)


@pytest.mark.parametrize("against", ["peer", pytest.param("plain", marks=pytest.mark.slow), "fp32"])
def test_benchmark_train_table(
    tiny_yaml: Path, against: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import train, updates

    class SmallProducts(updates.Products):
        def __init__(self, way: str, device: torch.device):
            super().__init__(way, device)
            self.matrix = self.matrix[:64, :64]
            self.flops = 2 * 64**3 * self.times

    @contextlib.contextmanager
    def here(make: Any, *args: Any) -> Iterator[Any]:
        """In the place of own_process: in this process, since a new one takes seconds to load torch."""
        made.append(args[1])
        runner = make(*args)
        yield lambda method: getattr(runner, method)()

    made: list[str] = []
    kept: list[bool] = []
    monkeypatch.setattr(train, "own_process", here)
    monkeypatch.setattr(train, "Products", SmallProducts)
    monkeypatch.setattr(train, "MINILM", SETTINGS)
    monkeypatch.setattr(train, "BertSettings", lambda: SETTINGS)
    monkeypatch.setattr(train, "keep_freed_memory", lambda: kept.append(True))
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    large = ["--large", "4", "9", "5"] if against == "peer" else []
    options = parser.parse_args(["--config", str(tiny_yaml), "--check", "3", "--repeats", "1", *large])
    options.against, options.no_scaling = against, against == "fp32"
    found = train.run(options)
    last = re.fullmatch(LAST_LINE, found["summary"])
    ratio = found["speed"]["ratio"].get("fp32")  # none where fp32 is what others are compared with
    assert (ratio is None) == (against == "fp32")
    assert last and last[2] == f"{1 if ratio is None else ratio:.2f}" and last[3] == against
    seconds = found["speed"]["seconds"]
    if ratio is not None:
        assert ratio == seconds[against][0] / seconds["fp32"][0]
    assert len(kept) == 1 + sum(way in updates.OURS for way in made)  # the peer has the system's allocator
    assert set(made) == set(seconds)
    for shares in found["speed"]["shares"].values():
        assert list(shares) == ["data", "forward", "backward", "optimizer"]
        assert sum(shares.values()) == pytest.approx(1)
    for way, share in found["speed"]["of_peak"].items():
        speed = found["speed"]["flops"][way] / seconds[way][0]
        assert share == pytest.approx(speed / found["speed"]["peak"][way])
    assert all(memory > 2**20 for memory in found["speed"]["memory"].values())
    assert len(found.get("large", {}).get("seconds", ())) == (2 if large else 0)
    growth = {name: len(rows["sizes"]) for name, rows in found.get("growth", {}).items()}
    assert growth == ({} if against == "fp32" else {"batch": 4, "frames": 4, "clips": 3})
    printed = capsys.readouterr().out
    assert printed.count("they grow as n^") == len(growth) and " of peak" in printed
    assert ("4 clips; clips/s: peer" in printed) == bool(large)
    assert ("losses of 3 updates" in printed) == (against != "fp32")
    if against != "fp32":
        for losses in found["losses"].values():
            for way in losses:
                assert losses[way] == pytest.approx(losses[against], abs=1e-5), way
        recipe, full = found["losses"]["recipe"], found["losses"]["full"]
        assert list(recipe) == [against, "fp32"] and list(full) == [against, "fp32", "reversed"]
        assert recipe[against][0] == full[against][0]
        assert recipe[against][2] != full[against][2]  # the recipe warms up


def test_benchmarks_describe_their_baselines(capsys: pytest.CaptureFixture[str]) -> None:
    import benchmark

    for name in benchmark.BENCHMARKS:
        with pytest.raises(SystemExit) as done:
            benchmark.main([name, "--help"])
        assert done.value.code == 0
        text = capsys.readouterr().out
        assert "--against {" in text and "--out FILE" in text


def test_benchmarks_replace_no_foreign_file(tmp_path: Path) -> None:
    import benchmark

    (tmp_path / "a.json").write_text('{"mine": 1}')
    with pytest.raises(UserError, match="was not written by this command"):
        benchmark.main(["eval", "--out", str(tmp_path / "a.json")])
    assert (tmp_path / "a.json").read_text() == '{"mine": 1}'


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        "extract --clips 1 --seconds 2 --repeats 1 --memory-minutes 0.05 --against plain",
        "extract --clips 2 --seconds 1 --repeats 1 --against peer",
        f"extract --clips 1 --seconds 1 --repeats 1 --against peer --python {sys.executable}",
        "data --clips 400 --updates 1 --parsed 3 --repeats 1",
        "train --check 1 --repeats 1",
    ],
)
def test_benchmark_commands(arguments: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import benchmark

    out = tmp_path / "a.json"
    assert benchmark.main([*arguments.split(), "--out", str(out)]) == 0
    printed, name = capsys.readouterr().out, arguments.split()[0]
    assert printed.splitlines()[-1] == read_json(out)["summary"]
    assert printed.splitlines()[-1].startswith(f"{name}: ")
    assert ("losses of 1 updates" in printed) == (name == "train")
