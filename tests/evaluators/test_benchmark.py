"""The eval benchmark on a small size; it checks that all ways agree, and its last line and JSON are read by
others.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(out: Path, *options: str) -> tuple[str, dict[str, Any]]:
    """The output of the benchmark, and its numbers."""
    command = [sys.executable, "scripts/benchmark.py", "eval", *options, "--repeats", "1", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())


SIZES = ["--clips", "120", "--prompts", "7", "120", "--knn", "60", "120", "--classes", "6", "--width", "8"]


def test_benchmark_eval_against_peer(tmp_path: Path) -> None:
    printed, found = run(tmp_path / "eval.json", *SIZES)
    ratio = r"\d+\.\d\dx"
    last = rf"eval: {ratio} \(120 prompts\), {ratio} \(7 prompts\), k-NN {ratio} \(120 clips\) against peer"
    assert re.fullmatch(last, printed.splitlines()[-1])
    assert [case["prompts"] for case in found["cases"]] == [7, 120]
    assert {case["peer"] for case in found["cases"]} <= {"numpy", "torch"}
    assert {"product", "rest", "k-NN", "k-NN / product"} == found["knn"]["growth"].keys()
    assert found["machine"]["cores"] >= 1 and found["settings"]["clips"] == 120


@pytest.mark.slow
def test_benchmark_eval_of_protocols(tmp_path: Path) -> None:
    _, found = run(tmp_path / "eval.json", *SIZES, "--scale", "300", "--protocols", "knn", "linear_probe")
    assert [row["protocol"] for row in found["scale"]] == ["knn", "linear_probe"]
    assert all(0 < row["metrics"][0]["R@1"] <= 1 for row in found["scale"])


@pytest.mark.slow
def test_benchmark_eval_against_plain(tmp_path: Path) -> None:
    sizes = ["--clips", "120", "--prompts", "7", "120", "--against", "plain"]
    large = ["--large-clips", "700", "--large-prompts", "50", "--width", "8"]
    printed, found = run(tmp_path / "eval.json", *sizes, *large)
    assert re.fullmatch(r"eval: \d+x against plain", printed.splitlines()[-1])
    assert [case["prompts"] for case in found["cases"]] == [7, 120]
    assert len(found["growth"]["seconds"]) == 4 and "exponent" in found["growth"]
    assert 0 < found["large"]["metrics"]["v2t"]["R@1"] < 1
    assert found["large"]["peak_bytes"] < 400 * 2**20
