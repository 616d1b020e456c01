"""The benchmark of spotting: time in proportion to the length, memory that does not grow with it."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import run_module


@pytest.mark.slow
@pytest.mark.parametrize("against", ["peer", "plain"])
def test_benchmark_spot(tmp_path: Path, against: str) -> None:
    """It checks itself that the peer finds the same peaks."""
    sizes = ["--minutes", "1", "8", "--texts", "200", "--plain", "20", "--peer", "0.5"]
    words = [*sizes, "--against", against, "--out", str(tmp_path / "spot.json")]
    done = run_module("scripts/benchmark.py", "spot", *words)
    assert done.returncode == 0, done.stderr
    last = rf"spot: 8 min in \d+ s, \d+ MiB, \d+\.\dx against {against} \(\d+\.\dx of processor time\)"
    assert re.fullmatch(last, done.stdout.splitlines()[-1])
    short, long = json.loads((tmp_path / "spot.json").read_text())["lengths"]
    assert long["windows"] > 7 * short["windows"]
    # seven minutes more are 98 MiB of poses, and 24 MiB of scores
    assert long["peak_mib"] - short["peak_mib"] < 40
