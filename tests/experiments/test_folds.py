"""Leave-one-language-out: folds, SVM baseline and table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmpt.experiments.folds import (
    FoldResult,
    check_folds,
    folds_of,
    picture,
    svm_baseline,
    table,
    with_clips_of,
)
from mmpt.utils.errors import UserError


def test_folds_of_languages() -> None:
    assert [fold.name for fold in folds_of(["a", "b", "c"])] == ["a", "b", "c"]
    fold = folds_of(["a", "b", "c"], [["a", "c"]])[0]
    assert fold.name == "a+c" and fold.train == ("b",)
    assert "dataset.train_languages=[b]" in fold.overrides and "dataset.valid_languages=[]" in fold.overrides


@pytest.mark.parametrize(
    ("languages", "together", "words"),
    [
        ([], None, "languages: expected sign languages"),
        (["a", ""], None, "languages: expected sign languages"),
        (["a", "b", "a"], None, "languages: a is given more than once"),
        (["a", "b"], [], "folds: expected sign languages"),
        (["a", "b"], [["a", ""]], "folds: expected sign languages"),
        (["a", "b"], [["a"], []], "the fold '' leaves all languages"),
        (["a", "b", "c"], [["a", "b"], ["b"]], "folds: b is given more than once"),
        (["a"], None, "the fold 'a' leaves no languages"),
        (["a", "b"], [["b", "a"]], "leaves no languages"),
    ],
)
def test_folds_errors(languages: list[str], together: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        folds_of(languages, together)


def test_svm_baseline_uses_the_clips_of_the_fold(tiny_yaml: Path) -> None:
    from mmpt.config import load_config

    fold = folds_of(["svk", "swl", "psr", "gsg"], [["gsg"]])[0]
    correct = svm_baseline(load_config(tiny_yaml, ["dataset.hand_frame=palm", "model.vfeat_dim=69"]), fold)
    assert correct.shape == (6,) and correct.dtype == bool
    assert correct.mean() > 1 / 6, "above chance on real hands"


def test_svm_baseline_uses_the_features_of_the_model(
    tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip over max_video_len is cut for both."""
    from sklearn.svm import SVC

    from mmpt.config import load_config

    given: list[np.ndarray] = []
    fit = SVC.fit
    monkeypatch.setattr(SVC, "fit", lambda self, rows, labels: given.append(rows) or fit(self, rows, labels))
    [fold] = folds_of(["svk", "swl", "psr", "gsg"], [["gsg"]])
    for most in (256, 3):
        svm_baseline(load_config(tiny_yaml, [f"dataset.max_video_len={most}"]), fold)
    whole, cut = given
    assert whole.shape == cut.shape and not np.allclose(whole, cut, atol=0.1)


def test_svm_on_other_features_uses_the_same_clips(tiny_yaml: Path) -> None:
    from mmpt.config import load_config

    [fold] = folds_of(["svk", "swl", "psr", "gsg"], [["gsg"]])
    config = load_config(tiny_yaml, ["dataset.letters=[A, B, C]", "dataset.prompt='{letter} of {language}'"])
    other = load_config(tiny_yaml, ["dataset.hand_frame=palm", "model.vfeat_dim=69"])
    with pytest.raises(UserError, match="palm: in the fold gsg, its 18 clips of train are not the 9 of"):
        check_folds(config, [fold], {"palm": other})
    other = with_clips_of(other, config)
    check_folds(config, [fold], {"palm": other})
    assert svm_baseline(other, fold).shape == svm_baseline(config, fold).shape == (3,)
    assert other.dataset.hand_frame == "palm"


def test_folds_table_and_figure(tmp_path: Path, rendered: None) -> None:
    one, other = folds_of(["a", "b"])
    results = [
        FoldResult(
            one, np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool), np.array([1, 0, 0, 0], bool), 0.5, 0.25
        ),
        FoldResult(other, np.array([[0, 0], [0, 0]], bool), np.array([0, 1], bool), 1.0, 0.5),
    ]
    text = table(results)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[2][3].startswith("0.750 (") and rows[2][4].startswith("0.250 (") and rows[2][5] == "+0.500"
    assert rows[4][0] == "| mean of 2" and rows[4][3].startswith("0.375 (")
    assert rows[4][5] == "+0.000 (-0.375 to +0.375)", "with its interval, clip by clip"
    assert "ahead of the SVM in 1 of 2 folds, level in 0" in text
    assert [row[2] for row in rows[2:]] == ["0.250", "0.500", "0.375"], "of a fold's own prompts"
    assert picture(tmp_path / "folds.png", results, "title").stat().st_size > 5000


def test_folds_table_and_figure_with_other_svms(tmp_path: Path, rendered: None) -> None:
    one, other = folds_of(["a", "b"])
    right, wrong = np.ones(4, bool), np.zeros(4, bool)
    half = np.array([1, 0, 1, 0], bool)
    results = [
        FoldResult(one, half[None], wrong, 0.5, 0.25, {"palm": half}),
        FoldResult(other, half[None], wrong, 0.5, 0.25, {"palm": right}),
    ]
    text = table(results)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[0][7].startswith("SVM, palm") and rows[2][7].startswith("0.500 (")
    assert rows[4][4].startswith("0.000 (") and rows[4][7].startswith("0.750 (")
    assert "ahead of the SVM in 2 of 2 folds, level in 0." in text
    assert "ahead of the SVM on the features of palm in 0 of 2 folds, level in 1." in text
    assert picture(tmp_path / "folds.png", results, "title").stat().st_size > 5000
