"""The sliding SVM."""

import numpy as np
import pytest

from mmpt.experiments.sliding_svm import SvmSettings, fit_svm
from mmpt.utils.errors import UserError


@pytest.mark.parametrize("settings", list(SvmSettings.all()), ids=str)
def test_scores_are_of_the_named_classes(settings):
    rng = np.random.default_rng(0)
    labels = [name for name in ("b", "a", "c") for _ in range(8)]
    centres = {"a": [0, 5, 0], "b": [5, 0, 0], "c": [0, 0, 5]}
    clips = np.array([centres[name] for name in labels]) + rng.normal(size=(24, 3))
    scorer = fit_svm(clips, labels, ["c", "a", "b"], settings)
    scores = scorer(np.array([centres[name] for name in ("c", "a", "b")], float))
    assert scores.shape == (3, 3) and scores.argmax(axis=1).tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="'d'"):
        fit_svm(clips, labels, ["a", "d"], settings)
