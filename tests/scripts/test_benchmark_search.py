"""The search benchmark on a small size; it checks itself that the plain loop and the index agree."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.commands import run_lines
from tests.conftest import ROOT


@pytest.mark.slow
def test_benchmark_search_against_plain(tmp_path: Path) -> None:
    sizes = ["--sizes", "300", "900", "--width", "16", "--queries", "20", "--repeats", "1", "--kinds", "ivf"]
    out = tmp_path / "search.json"
    more = ["--against", "plain", "--out", str(out), "--folder", str(tmp_path)]
    done = run_lines([shlex.join(["python", "scripts/benchmark.py", "search", *sizes, *more])], ROOT)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"search: flat \d+x, ivf \d+x \(recall [01]\.\d+\) at 900 vectors against plain", last
    )
    found = json.loads(out.read_text())
    assert [(row["vectors"], row["way"]) for row in found["rows"]] == [
        (size, way) for size in (300, 900) for way in ("loop", "flat", "ivf")
    ]
    assert found["growth"].keys() == {"loop", "flat", "ivf"}
    recalls = [row["recall"] for row in found["rows"] if row["way"] != "loop"]
    assert min(recalls) > 0.9 and recalls[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["search.json"]


def test_benchmark_search_against_peer(tmp_path: Path) -> None:
    sizes = ["--sizes", "900", "--width", "16", "--queries", "20", "--repeats", "1"]
    out = tmp_path / "search.json"
    more = ["--out", str(out), "--folder", str(tmp_path)]
    done = run_lines([shlex.join(["python", "scripts/benchmark.py", "search", *sizes, *more])], ROOT)
    assert done.returncode == 0, done.stderr
    both = r"\d+\.\d\dx batch, \d+\.\d\dx single"
    last = rf"search: flat {both}; ivfpq {both} \(recall [01]\.\d+\) at 900 vectors against peer"
    assert re.fullmatch(last, done.stdout.splitlines()[-1])
    rows = json.loads(out.read_text())["rows"]
    assert [(row["way"], row["queries"]) for row in rows] == [
        (w, q) for q in (20, 1) for w in ("flat", "ivfpq")
    ]
    assert all(row["peer_recall"] >= row["recall"] - 0.01 for row in rows if row["way"] == "ivfpq")
    assert [path.name for path in tmp_path.iterdir()] == ["search.json"]
