"""The benchmarks of embedding and reading on small sizes; they check themselves that both ways agree."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import run_module


@pytest.mark.slow
def test_benchmark_embed(tmp_path: Path) -> None:
    out = tmp_path / "embed.json"
    sizes = ["--clips", "70", "--repeats", "1", "--set", "model.ensemble_size=2", "--out", str(out)]
    done = run_module("scripts/benchmark.py", "embed", *sizes)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"embed: \d+\.\d\dx against peer", done.stdout.splitlines()[-1])
    found = json.loads(out.read_text())
    assert found["largest_difference"] < 1e-5 and found["clips"] == 70


@pytest.mark.slow
def test_benchmark_reading() -> None:
    done = run_module("scripts/benchmark.py", "data", "--repeats", "1")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"data: \d+\.\d\dx against peer", done.stdout.splitlines()[-1])
