"""The eval benchmark on a small size: it checks that both ways agree, and its last line and JSON are read by
others.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_benchmark_eval(tmp_path: Path) -> None:
    sizes = ["--clips", "120", "--prompts", "7", "--repeats", "1"]
    large = ["--large-clips", "700", "--large-prompts", "50", "--width", "8"]
    command = [
        sys.executable,
        "scripts/benchmark.py",
        "eval",
        *sizes,
        *large,
        "--out",
        str(tmp_path / "eval.json"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"eval: \d+x", done.stdout.splitlines()[-1])
    found = json.loads((tmp_path / "eval.json").read_text())
    assert [case["prompts"] for case in found["cases"]] == [7, 120]
    assert len(found["growth"]["seconds"]) == 4 and "exponent" in found["growth"]
    assert 0 < found["large"]["metrics"]["v2t"]["R@1"] < 1
    assert found["large"]["peak_bytes"] < 400 * 2**20
    assert found["machine"]["cores"] >= 1 and found["settings"]["clips"] == 120
