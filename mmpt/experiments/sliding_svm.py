"""A sliding SVM, the baseline of spotting: it scores the classes of single windows by their mean features."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.utils.errors import UserError

Scorer = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Features [N, D] -> scores of the classes [N, C]."""
SCORES = ("margin", "votes")
CS = (1.0, 10.0, 100.0)


@dataclass(frozen=True)
class SvmSettings:
    """An SVM with an RBF kernel on standardised features (scikit-learn).

    c: scikit-learn's C. score: "margin", of one SVM for each class against all others, or "votes", of the
    SVMs of all pairs of classes, as SVC.decision_function.
    """

    c: float = 10.0
    score: str = "margin"

    @classmethod
    def all(cls) -> Iterator["SvmSettings"]:
        """The settings to choose from on validation recordings."""
        return (cls(c, score) for score, c in itertools.product(SCORES, CS))

    def __str__(self) -> str:
        return f"{self.score}, C={self.c:g}"


def fit_svm(
    features: ArrayLike, labels: Sequence[str], classes: Sequence[str], settings: SvmSettings
) -> Scorer:
    """Fit an SVM on clips [N, D] with their labels [N]; the scorer's columns are `classes`.

    Raises UserError for classes without a clip.
    """
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if missing := sorted(set(classes) - set(labels)):
        raise UserError(f"there is no training clip of {', '.join(map(repr, missing))} to fit an SVM on.")
    own = OneVsRestClassifier(SVC(C=settings.c)) if settings.score == "margin" else SVC(C=settings.c)
    pipeline = make_pipeline(StandardScaler(), own).fit(np.asarray(features, np.float64), list(labels))
    columns = [list(pipeline.classes_).index(name) for name in classes]
    return lambda queries: pipeline.decision_function(queries)[:, columns]
