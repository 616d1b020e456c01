"""The eval benchmark on a small size; it checks that all ways agree, and its last line and JSON are read by
others.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

Run = Callable[..., tuple[str, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the benchmark with some options: what it prints, and its numbers."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from scripts.benchmark import main

    def run(*options: str) -> tuple[str, dict[str, Any]]:
        assert main(["eval", *options, "--repeats", "1", "--out", str(tmp_path / "eval.json")]) == 0
        return capsys.readouterr().out, json.loads((tmp_path / "eval.json").read_text())

    return run


SIZES = ["--clips", "120", "--prompts", "7", "120", "--knn", "60", "120", "--classes", "6", "--width", "8"]


def test_benchmark_eval_against_peer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the processes that only measure memory."""
    from benchmarks import evaluation

    monkeypatch.setattr(evaluation, "in_own_process", lambda work, *arguments: (work(*arguments), 0))
    printed, found = run(*SIZES)
    ratio = r"\d+\.\d\dx"
    last = rf"eval: {ratio} \(120 prompts\), {ratio} \(7 prompts\), k-NN {ratio} \(120 clips\) against peer"
    assert re.fullmatch(last, printed.splitlines()[-1])
    assert [case["prompts"] for case in found["cases"]] == [7, 120]
    assert {case["peer"] for case in found["cases"]} <= {"numpy", "torch"}
    assert {"product", "rest", "k-NN", "k-NN / product"} == found["knn"]["growth"].keys()
    assert found["machine"]["cores"] >= 1 and found["settings"]["clips"] == 120


@pytest.mark.slow
def test_benchmark_eval_of_protocols(run: Run) -> None:
    _, found = run(*SIZES, "--scale", "300", "--protocols", "knn", "linear_probe")
    assert [row["protocol"] for row in found["scale"]] == ["knn", "linear_probe"]
    assert all(0 < row["metrics"][0]["R@1"] <= 1 for row in found["scale"])


@pytest.mark.slow
def test_benchmark_eval_against_plain(run: Run) -> None:
    sizes = ["--clips", "120", "--prompts", "7", "120", "--against", "plain"]
    large = ["--large-clips", "700", "--large-prompts", "50", "--width", "8"]
    printed, found = run(*sizes, *large)
    assert re.fullmatch(r"eval: \d+x against plain", printed.splitlines()[-1])
    assert [case["prompts"] for case in found["cases"]] == [7, 120]
    assert len(found["growth"]["seconds"]) == 4 and "exponent" in found["growth"]
    assert 0 < found["large"]["metrics"]["v2t"]["R@1"] < 1
    assert found["large"]["peak_bytes"] < 400 * 2**20
