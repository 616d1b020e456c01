"""Leave one language out: a model for each fold, an SVM on the same features beside it, a table and a
picture.

A fold holds some sign languages out; everything else trains, nothing is chosen on them, and the number of
epochs is fixed beforehand.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.config import Config
from mmpt.evaluators.runs import interval_of_mean
from mmpt.evaluators.tables import markdown_table
from mmpt.utils.figures import save_figure


@dataclass(frozen=True)
class Fold:
    """Sign languages that are held out together, and those that train."""

    held_out: tuple[str, ...]
    train: tuple[str, ...]

    @property
    def name(self) -> str:
        """The held-out languages, joined by +."""
        return "+".join(self.held_out)

    @property
    def overrides(self) -> tuple[str, ...]:
        """What makes a config's task this fold: no language validates."""
        return (
            f"dataset.test_languages=[{','.join(self.held_out)}]",
            "dataset.valid_languages=[]",
            f"dataset.train_languages=[{','.join(self.train)}]",
        )


def folds_of(languages: Sequence[str], together: Sequence[Sequence[str]] | None = None) -> list[Fold]:
    """A fold for each language, or for each group of `together`; the other `languages` train."""
    groups = [(name,) for name in languages] if together is None else [tuple(group) for group in together]
    return [Fold(group, tuple(name for name in languages if name not in group)) for group in groups]


@dataclass
class FoldResult:
    """What came of a fold. correct, svm: bool [N], clip by clip (the model's may be [seeds, N])."""

    fold: Fold
    correct: np.ndarray
    svm: np.ndarray
    t2v: float

    @property
    def model(self) -> float:
        """V2T R@1 of the model, mean over seeds."""
        return float(self.correct.mean())


def svm_baseline(config: Config, fold: Fold) -> np.ndarray:
    """Which clips of a fold an SVM gets right: bool [N], in the order of the test split.

    The features are those the model sees, without augmentation, as the mean over a clip's frames and brought
    to mean 0 and standard deviation 1; RBF kernel, C=10 (scikit-learn).
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    from mmpt.tasks import Task

    dataset = dataclasses.replace(
        config.dataset,
        test_languages=list(fold.held_out),
        valid_languages=[],
        train_languages=list(fold.train),
        extra_letters=False,
    )
    task = Task(dataclasses.replace(config, dataset=dataset))
    train, train_prompts = _means(task, "train")
    test, test_prompts = _means(task, "test")
    machine = make_pipeline(StandardScaler(), SVC(C=10))
    machine.fit(train, train_prompts)
    return np.equal(machine.predict(test), test_prompts)


def _means(task: Any, split: str) -> tuple[np.ndarray, list[str]]:
    """Mean features [N, D] of a split's clips, and their prompts."""
    data = task.dataset(split)
    rows = [data.clips.features(index, None).mean(0) for index in range(len(data))]  # None: not augmented
    return np.stack(rows), [example.text for example in data.examples]


def table(results: Sequence[FoldResult], n_prompts: int) -> str:
    """Markdown: a row a fold, then the mean over folds, with 95 % intervals (bootstrap over clips)."""
    rows = [
        [
            result.fold.name,
            str(result.correct.shape[-1]),
            _with_interval(result.correct),
            _with_interval(result.svm),
            f"{result.model - float(result.svm.mean()):+.3f}",
            f"{result.t2v:.3f}",
        ]
        for result in results
    ]
    model, svm = (float(np.mean(values)) for values in zip(*((r.model, r.svm.mean()) for r in results)))
    everything = np.concatenate([r.correct.reshape(-1, r.correct.shape[-1]) for r in results], axis=1)
    rows.append(
        [
            f"mean of {len(results)}",
            str(everything.shape[1]),
            f"{model:.3f} {_interval(everything)}",
            f"{svm:.3f} {_interval(np.concatenate([r.svm for r in results]))}",
            f"{model - svm:+.3f}",
            f"{np.mean([r.t2v for r in results]):.3f}",
        ]
    )
    ahead = sum(r.model > r.svm.mean() for r in results)
    level = sum(r.model == r.svm.mean() for r in results)
    header = ["held out", "N", "V2T R@1", "SVM", "difference", "T2V P@1"]
    return (
        f"{markdown_table(header, rows)}\n\n"
        f"{n_prompts} prompts; chance {1 / n_prompts:.3f}. In brackets: 95 % intervals (clips drawn anew). "
        f"The model is ahead of the SVM in {ahead} of {len(results)} folds, level in {level}.\n"
    )


def _with_interval(correct: np.ndarray) -> str:
    return f"{float(correct.mean()):.3f} {_interval(correct)}"


def _interval(correct: np.ndarray) -> str:
    low, high = interval_of_mean(correct)
    return f"({low:.3f}-{high:.3f})"


def picture(path: Path, results: Sequence[FoldResult], n_prompts: int, title: str) -> Path:
    """Bars of the model and the SVM for each fold, with intervals and a line at chance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 0.8 * len(results) + 2), 4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(results))
    for shift, name, parts in (
        (-0.2, "SignCLIP", [r.correct for r in results]),
        (0.2, "SVM", [r.svm for r in results]),
    ):
        means = np.array([float(part.mean()) for part in parts])
        bounds = np.array([interval_of_mean(part) for part in parts]).T
        errors = np.abs(bounds - means)
        axes.bar(
            places + shift, means, 0.4, yerr=errors, label=f"{name} (mean {means.mean():.3f})", capsize=2
        )
    axes.axhline(1 / n_prompts, color="black", linewidth=0.8, linestyle=":", label="chance")
    axes.set_xticks(places, [r.fold.name for r in results])
    axes.set_ylim(0, 1)
    axes.set_xlabel("sign language held out")
    axes.set_ylabel("video to text, R@1")
    axes.set_title(title)
    axes.legend()
    return save_figure(figure, path)
