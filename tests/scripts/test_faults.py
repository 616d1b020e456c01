"""scripts/faults.py: it detects damaged and leftover files, and its trials pass."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT, run_module


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import faults

    yield faults
    sys.modules.pop("faults")


def test_faults_detects_damaged_and_leftover_files(faults, tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.arange(3))
    torch.save({"w": torch.ones(1)}, tmp_path / "good.pt")
    assert faults.damaged(tmp_path) == [] and faults.leftovers(tmp_path) == []
    (tmp_path / "torn.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:-4])
    np.savez(tmp_path / "good.npz", a=np.arange(300))
    content = bytearray((tmp_path / "good.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "torn.npz").write_bytes(content)
    (tmp_path / "torn.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:-200])
    (tmp_path / "torn.json").write_text('{"a": ')
    (tmp_path / ".x.tmp.npy").write_bytes(b"")
    assert [line.partition(":")[0] for line in faults.damaged(tmp_path)] == [
        "torn.json",
        "torn.npy",
        "torn.npz",
        "torn.pt",
    ]
    assert faults.leftovers(tmp_path) == [".x.tmp.npy"]


@pytest.mark.slow
def test_faults_of_each_command(tmp_path: Path) -> None:
    done = run_module("scripts/faults.py", "--trials", "9", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    trials = json.loads((tmp_path / "faults.json").read_text())["trials"]
    names = ["extract", "train", "evaluate", "convert", "embed", "spot", "search flat", "search hnsw"]
    assert [(trial["command"], trial["fault"], trial["status"]) for trial in trials[:8]] == [
        (name, "disk full", 2) for name in names
    ]
    assert (trials[8]["command"], trials[8]["fault"]) == ("extract", "SIGKILL")
