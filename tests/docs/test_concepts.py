"""docs/concepts.md: the maxima of the metrics are those that perfect similarities reach."""

import re

import numpy as np
import pytest

from mmpt.evaluators import rank_metrics
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("side", "metric"), [("v2t", "R"), ("t2v", "P"), ("t2v", "R")])
def test_maxima_of_the_metrics(side: str, metric: str) -> None:
    """26 prompts with 3 clips each, every clip most similar to its own prompt."""
    perfect = rank_metrics(np.eye(26).repeat(3, axis=1), np.arange(26).repeat(3))
    row = re.search(
        rf"^\| {side.upper()} {metric}@k \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE
    )
    assert row
    for k, shown in zip((1, 5, 10), row.groups()):
        assert perfect[side][f"{metric}@{k}"] == pytest.approx(float(shown), abs=5e-4)
