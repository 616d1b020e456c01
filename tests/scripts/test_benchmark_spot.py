"""The benchmark of spotting: time in proportion to the length, memory that does not grow with it."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import run_module


@pytest.mark.slow
def test_benchmark_spot(tmp_path: Path) -> None:
    sizes = ["--minutes", "1", "8", "--texts", "200", "--plain", "20", "--out", str(tmp_path / "spot.json")]
    done = run_module("scripts/benchmark.py", "spot", *sizes)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"spot: 8 min in \d+ s, \d+ MiB, \d+\.\dx against plain", done.stdout.splitlines()[-1]
    )
    short, long = json.loads((tmp_path / "spot.json").read_text())["lengths"]
    assert long["windows"] > 7 * short["windows"]
    # seven minutes more are 98 MiB of poses, and 24 MiB of scores
    assert long["peak_mib"] - short["peak_mib"] < 40
