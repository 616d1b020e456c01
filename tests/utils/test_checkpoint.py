"""Loading weights: every published format, no code is run, every difference is named."""

import argparse
import math
import os
import random
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmpt.utils.checkpoint import (
    fit_position_tables,
    load_into,
    load_state_dict_file,
    load_torch_file,
    merge_adapters,
)
from mmpt.utils.errors import UserError

RAN: list[str] = []


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


class Custom:
    """A class that a checkpoint may hold and that is not ours to build."""


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"layer.weight": torch.randn(3, 4), "layer.bias": torch.randn(3), "steps": torch.tensor(7)}


def fairseq_file(path: Path, state: dict[str, torch.Tensor], **extra: Any) -> Path:
    """The layout that fairseq-train writes."""
    namespace = argparse.Namespace(arch="mmarch", lr=[0.005], nested=argparse.Namespace(seed=1))
    content = {
        "args": None,
        "cfg": {"model": namespace, "task": namespace, "common": {"seed": 1}},
        "model": OrderedDict((f"mmmodel.{name}", tensor) for name, tensor in state.items()),
        "optimizer_history": [{"num_updates": 4, "lr_scheduler_state": {"best": None}}],
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(2)}}},
        **extra,
    }
    torch.save(content, path)
    return path


def same(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return state.keys() == expected.keys() and all(torch.equal(state[k], expected[k]) for k in expected)


def test_load_fairseq_checkpoint(tmp_path: Path) -> None:
    assert same(load_state_dict_file(fairseq_file(tmp_path / "checkpoint_best.pt", weights())), weights())


def test_load_reference_checkpoint(shared_reference: Path, data_dir: Path) -> None:
    theirs = load_state_dict_file(shared_reference / "mmfusion" / "checkpoint_best.pt")
    assert len(theirs) == 116
    assert same(theirs, load_state_dict_file(data_dir / "mmfusion" / "weights.safetensors"))


def test_load_state_dict_formats(tmp_path: Path) -> None:
    plain, wrapped, old = (tmp_path / name for name in ("plain.pt", "wrapped.pth.tar", "old.bin"))
    torch.save(weights(), plain)
    torch.save({"state_dict": {f"module.mmmodel.{k}": v for k, v in weights().items()}, "epoch": 3}, wrapped)
    torch.save(weights(), old, _use_new_zipfile_serialization=False)
    for path in (plain, wrapped, old):
        assert same(load_state_dict_file(path), weights())


def test_load_safetensors(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "model.safetensors")
    assert same(load_state_dict_file(tmp_path / "model.safetensors"), weights())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_load_half_precision_as_float32(tmp_path: Path, kind: torch.dtype) -> None:
    half = {name: t.to(kind) if t.is_floating_point() else t for name, t in weights().items()}
    half["flags"] = torch.tensor([True, False])
    for path in (fairseq_file(tmp_path / "half.pt", half), tmp_path / "half.safetensors"):
        if path.suffix == ".safetensors":
            save_file(half, path)
        state = load_state_dict_file(path)
        assert state["layer.weight"].dtype == torch.float32
        assert torch.equal(state["layer.weight"], half["layer.weight"].float())
        assert state["steps"].dtype == torch.int64 and state["flags"].dtype == torch.bool


def test_load_ignores_old_position_buffers(tmp_path: Path) -> None:
    old = {"text_encoder.embeddings.position_ids": torch.arange(512)[None], **weights()}
    assert same(load_state_dict_file(fairseq_file(tmp_path / "old.pt", old)), weights())


def test_loaded_weights_do_not_need_the_file(tmp_path: Path) -> None:
    path = fairseq_file(tmp_path / "checkpoint.pt", weights())
    state = load_state_dict_file(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert same(state, weights())


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint_code_is_not_run(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    torch.save({"model": weights(), "extra": Bomb(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"refused.*(posix|nt)\.mkdir.*--trust-checkpoint"):
        load_state_dict_file(path)
    with pytest.raises(UserError, match="refused"):
        load_torch_file(path)
    assert not marker.exists()
    assert same(load_state_dict_file(path, trust=True), weights())
    assert marker.exists()  # so the file does hold code, and trust is trust


def test_checkpoint_refused_class_is_named(tmp_path: Path) -> None:
    path = fairseq_file(tmp_path / "checkpoint.pt", weights(), extra_state=Custom())
    with pytest.raises(UserError, match=r"test_checkpoint\.Custom"):
        load_state_dict_file(path)
    assert same(load_state_dict_file(path, trust=True), weights())


@pytest.fixture
def no_safe_globals() -> Iterator[None]:
    """The plugin adds a class for good."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def test_checkpoint_safe_globals_are_restored(tmp_path: Path, no_safe_globals: None) -> None:
    path = fairseq_file(tmp_path / "checkpoint.pt", weights())
    load_state_dict_file(path)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    with pytest.raises(Exception, match="Namespace"):
        torch.load(path, weights_only=True)


def test_checkpoint_keeps_earlier_safe_globals(tmp_path: Path, no_safe_globals: None) -> None:
    """fairseq's own reading of checkpoints, in the process that trains, relies on it."""
    path = fairseq_file(tmp_path / "checkpoint.pt", weights())
    torch.serialization.add_safe_globals([argparse.Namespace])
    load_state_dict_file(path)
    torch.load(path, weights_only=True)


def test_checkpoint_missing_or_damaged(tmp_path: Path) -> None:
    good = fairseq_file(tmp_path / "good.pt", weights()).read_bytes()
    save_file(weights(), tmp_path / "good.safetensors")
    tensors = (tmp_path / "good.safetensors").read_bytes()
    contents = {
        "empty.pt": b"",
        "text.pt": b"hello, this is not a checkpoint\n",
        "random.pt": random.Random(0).randbytes(4000),
        "half.pt": good[: len(good) // 2],
        "short.pt": good[:-10],
        "empty.safetensors": b"",
        "half.safetensors": tensors[: len(tensors) // 2],
        "bomb.safetensors": (2**62).to_bytes(8, "little") + b"{}",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name) as caught:
            load_state_dict_file(tmp_path / name)
        assert "\n" not in str(caught.value) and "damaged" in str(caught.value)
        assert "weights_only" not in str(caught.value), "torch's advice is to let the file run code"
    for name in ("nowhere.pt", ""):
        with pytest.raises(UserError, match="there is no checkpoint"):
            load_state_dict_file(tmp_path / name)


NO_WEIGHTS: list[tuple[Any, str]] = [
    ([1, 2], "no weights: expected a dict of tensors, got a list."),
    ({}, "no weights: expected a dict of tensors, got an empty dict."),
    ({"model": {}}, "no weights: expected a dict of tensors, got an empty dict."),
    ({"epoch": 3}, "invalid weights: epoch is not a named dense tensor"),
    ({"model": {"a": torch.zeros(1), "b": "x", 7: torch.zeros(1)}}, "invalid weights: b, 7 are not"),
    ({"model": {"a": torch.zeros(1).expand(4)}}, "invalid weights: a is"),
    ({"model": {"a": torch.zeros(1).expand(10**13)}}, "invalid weights: a is"),  # would fill the memory
    ({"model": {"a": torch.zeros(3).to_sparse()}}, "invalid weights: a is"),
    ({"model": {"a": torch.empty(3, device="meta")}}, "invalid weights: a is"),
]


@pytest.mark.parametrize(("content", "message"), NO_WEIGHTS)
def test_checkpoint_without_weights(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(UserError, match=rf"other\.pt has {message}"):
        load_state_dict_file(tmp_path / "other.pt")


def test_checkpoint_with_nan_weights_is_refused(tmp_path: Path) -> None:
    huge = torch.full((4,), 3e38)  # finite, though its sum is not
    torch.save({"good": torch.ones(2), "huge": huge}, tmp_path / "good.pt")
    assert set(load_state_dict_file(tmp_path / "good.pt")) == {"good", "huge"}
    torch.save({"good": torch.ones(2), "bad": torch.tensor([1.0, math.nan])}, tmp_path / "bad.pt")
    with pytest.raises(UserError, match=r"NaN or infinite \(1 of 2: bad\)"):
        load_state_dict_file(tmp_path / "bad.pt")


def test_checkpoint_with_a_duplicate_name(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1), "module.a": torch.zeros(1)}, tmp_path / "twice.pt")
    with pytest.raises(UserError, match="'a' twice"):
        load_state_dict_file(tmp_path / "twice.pt")


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.ModuleDict({"first": nn.Linear(4, 3), "second": nn.Linear(3, 2, bias=False)})


def test_load_into_names_every_difference() -> None:
    target = model()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = {"first.weight": torch.zeros(3, 5), "first.bias": torch.zeros(3), "third.weight": torch.zeros(1)}
    with pytest.raises(UserError) as caught:
        load_into(target, state, where="run/checkpoint.pt")
    message = str(caught.value)
    assert message.startswith("run/checkpoint.pt does not fit")
    assert "1 missing: second.weight" in message
    assert "1 unexpected: third.weight" in message
    assert "first.weight ([3, 5] in the file, [3, 4] in the model)" in message
    assert "init_ignore" in message
    assert same(target.state_dict(), before)


def test_load_into_ignore_patterns() -> None:
    target = model()
    state = {
        "first.weight": torch.zeros(3, 5),
        "first.bias": torch.zeros(3),
        "second.weight": torch.ones(2, 3),
        "third.weight": torch.zeros(1),
    }
    kept = target["first"].weight.clone()  # type: ignore[index]
    with pytest.raises(UserError, match=r"third\.weight"):
        load_into(target, state, ignore=["first.*"])
    assert sorted(load_into(target, state, ignore=["first.*", "third*"])) == ["first.weight", "third.weight"]
    assert torch.equal(target["first"].weight, kept)  # type: ignore[index]
    assert target["second"].weight.eq(1).all()  # type: ignore[index]
    assert target["first"].bias.eq(0).all()  # type: ignore[index]
    assert load_into(model(), model().state_dict()) == []


def test_load_into_shortens_long_lists() -> None:
    state = {f"extra.{i}": torch.zeros(1) for i in range(100)}
    fitting = {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}
    named = ", ".join(list(state)[:12])
    with pytest.raises(UserError, match=f"^the checkpoint does not .*100 unexpected: {named} and 88 more"):
        load_into(nn.Linear(1, 1), state | fitting)
    with pytest.raises(UserError, match=rf"12 unexpected: {named}\."):
        load_into(nn.Linear(1, 1), dict(list(state.items())[:12]) | fitting)


def test_load_ema_weights(tmp_path):
    path = tmp_path / "checkpoint_best.pt"
    content = {"model": {"mmmodel.w": torch.zeros(2)}, "extra_state": {"ema": {"mmmodel.w": torch.ones(2)}}}
    torch.save(content, path)
    assert load_state_dict_file(path)["w"].tolist() == [1, 1]
    torch.save(content | {"extra_state": {"epoch": 3}}, path)
    assert load_state_dict_file(path)["w"].tolist() == [0, 0]


def test_load_weights_of_a_gpu_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.save({"model": weights()}, tmp_path / "gpu.pt")
    assert same(load_state_dict_file(tmp_path / "gpu.pt"), weights())


@pytest.mark.parametrize("assign", [False, True])
def test_load_into_copies_or_assigns(assign: bool) -> None:
    """In the model's dtype in both cases."""
    target = model()
    state = {name: tensor.double() for name, tensor in model().state_dict().items()}
    state["first.bias"] = state["first.bias"].float()
    load_into(target, state, **({"assign": True} if assign else {}))
    assert all(parameter.dtype == torch.float32 for parameter in target.parameters())
    state["first.bias"].fill_(9.0)
    assert bool((target["first"].bias == 9.0).all()) is assign  # type: ignore[index]


class Positions(nn.Module):
    """Two modules with position tables of 4 rows and width 3, one of which is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.none = nn.Linear(1, 1)
        self.video, self.text = nn.Module(), nn.Module()
        for side in (self.video, self.text):
            side.position_embeddings = nn.Embedding(4, 3, dtype=torch.float64)
        self.text.position_embeddings.weight.requires_grad_(False)


def test_position_tables_grow_to_their_size_in_the_file() -> None:
    target = Positions()
    state = dict(target.state_dict()) | {
        f"{side}.position_embeddings.weight": torch.randn(rows, 3, dtype=torch.float64)
        for side, rows in (("video", 6), ("text", 5))
    }
    before = {name: tensor.clone() for name, tensor in state.items()}
    load_into(target, state)
    assert same(dict(target.state_dict()), before)
    for side, rows, trained in ((target.video, 6, True), (target.text, 5, False)):
        table = side.position_embeddings
        assert isinstance(table, nn.Embedding) and table.num_embeddings == rows
        assert table.weight.requires_grad is trained


@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (6, 2), (6,), (6, 3, 1)])
def test_position_tables_of_another_shape_are_no_larger_tables(shape: tuple[int, ...]) -> None:
    target, state = Positions(), {"video.position_embeddings.weight": torch.zeros(shape)}
    kept = target.video.position_embeddings
    fit_position_tables(target, state)
    assert target.video.position_embeddings is kept
    if shape != (4, 3):
        with pytest.raises(UserError, match=r"1 of another shape: video\.position_embeddings"):
            load_into(target, dict(target.state_dict()) | state)


def test_fit_position_tables_keeps_the_device() -> None:
    target = Positions().to("meta")
    fit_position_tables(target, {"video.position_embeddings.weight": torch.zeros(6, 3)})
    weight = target.video.position_embeddings.weight
    assert (weight.shape, weight.device.type, weight.dtype) == ((6, 3), "meta", torch.float64)


def test_lora_adapters_are_merged_by_hand() -> None:
    other = {"other.weight": torch.ones(2)}
    adapter = {
        "q.base_layer.weight": torch.eye(2),
        "q.base_layer.bias": torch.zeros(2),
        "q.lora_A.default.weight": torch.tensor([[1.0, 2.0]]),
        "q.lora_B.default.weight": torch.tensor([[3.0], [4.0]]),
    }
    merged = merge_adapters({**other, **adapter})
    assert merged.keys() == {"q.weight", "q.bias", "other.weight"}
    assert merged["q.weight"].tolist() == [[4.0, 6.0], [4.0, 9.0]]
    assert merge_adapters(other)["other.weight"] is other["other.weight"]
    for part in ("base_layer.weight", "lora_A.default.weight", "lora_B.default.weight"):
        with pytest.raises(UserError, match=r"the file has q\.lora_[AB]\.default\.weight, .* is incomplete"):
            merge_adapters(
                {name: tensor for name, tensor in adapter.items() if not name.endswith(part)}, "the file"
            )
    with pytest.raises(UserError, match=r"has q\.lora_magnitude, .* unknown kind"):
        merge_adapters({**adapter, "q.lora_magnitude": torch.ones(2)})
