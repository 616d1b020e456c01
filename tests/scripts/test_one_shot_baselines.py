"""scripts/one_shot_baselines.py: dynamic time warping, and the table."""

import numpy as np
import pytest

from scripts.one_shot_baselines import dtw, main


def cheapest(cost: np.ndarray, i: int, j: int) -> float:
    """The cheapest warping path from the start to (i, j), by recursion."""
    steps = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
    before = [cheapest(cost, a, b) for a, b in steps if a >= 0 and b >= 0]
    return float(cost[i, j]) + min(before, default=0.0)


@pytest.mark.parametrize("lengths", [(1, 1), (1, 4), (3, 5), (5, 5)])
def test_dtw_is_the_cheapest_path(lengths):
    rng = np.random.default_rng(0)
    one, other = (rng.normal(size=(length, 3)) for length in lengths)
    cost = np.linalg.norm(one[:, None] - other[None], axis=2)
    assert dtw(one, other) == pytest.approx(cheapest(cost, lengths[0] - 1, lengths[1] - 1) / sum(lengths))
    assert dtw(one, np.repeat(one, 2, axis=0)) == pytest.approx(0)


def test_the_table_has_the_methods_and_chance(tiny_yaml, tmp_path, capsys):
    languages = "dataset.test_languages=[gsg,ase]"
    assert main([str(tiny_yaml), languages]) == 0
    shown = capsys.readouterr().out
    assert "DTW on features" in shown and "LDA, cosine" in shown
    assert "12 pairs of query and gallery (other-language), 6 signs" in shown and " 0.408 " in shown
    assert "| chance | 0.408 |" in shown and "1 draw of the galleries. In brackets: 95 %" in shown
    for letters, clips in ("[A]", "3 clips of 1 prompt"), ("[A,B,C]", "3 clips of 3 prompts"):
        train = ["dataset.train_languages=[psr]"] if letters != "[A]" else []
        assert main([str(tiny_yaml), languages, f"dataset.letters={letters}", *train]) == 0
        shown = capsys.readouterr().out
        assert f"no LDA: training has {clips}; it needs" in shown and "LDA, cosine" not in shown
    (tmp_path / "ids.json").write_text('{"videos": ["x"]}')
    facts = '"n_videos": 1, "n_prompts": 1, "chance": {}, "similarity": "cosine"'
    (tmp_path / "results.json").write_text(f'{{"v2v": {{}}, {facts}}}')
    assert main([str(tiny_yaml), languages, "--results", str(tmp_path)]) == 2
    assert "not an evaluation of the clips" in capsys.readouterr().err
    assert main([str(tiny_yaml), languages, "--results", str(tmp_path / "no")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
