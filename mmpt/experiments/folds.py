"""Leave one language out: a model and an SVM on the same features for each fold, a table and a figure.

A fold holds some sign languages out and trains on all others. Nothing is tuned on the held-out languages; the
number of epochs is fixed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.config import Config
from mmpt.evaluators.metrics.bootstrap import interval_of_mean
from mmpt.evaluators.prompt_sets import UNSEEN_ALPHABET
from mmpt.evaluators.reports.tables import csv_text, difference, markdown_table, with_interval
from mmpt.experiments.ridge import mean_features, ridge_correct
from mmpt.experiments.runs import Run
from mmpt.utils.errors import UserError
from mmpt.utils.figures import save_figure

SVM, RIDGE = "SVM", "kernel ridge"
# keys of `dataset` that select clips and prompts, besides the languages
_CLIPS = ("meta_processor", "vfeat_dir", "letters", "extra_letters", "prompt", "prompt_templates")


@dataclass(frozen=True)
class Fold:
    """Sign languages that are held out together, and the languages to train on."""

    held_out: tuple[str, ...]
    train: tuple[str, ...]

    @property
    def name(self) -> str:
        """The held-out languages, joined by +."""
        return "+".join(self.held_out)

    @property
    def overrides(self) -> tuple[str, ...]:
        """Overrides that select this fold in a config, without validation languages."""
        return (
            f"dataset.test_languages=[{','.join(self.held_out)}]",
            "dataset.valid_languages=[]",
            f"dataset.train_languages=[{','.join(self.train)}]",
        )


def folds_of(languages: Sequence[str], together: Sequence[Sequence[str]] | None = None) -> list[Fold]:
    """A fold for each language, or for each group in `together`, that trains on the other `languages`.

    Raises UserError for names that are empty or repeated, a language in two folds, and a fold that holds out
    nothing or leaves nothing to train on.
    """
    groups = [(name,) for name in languages] if together is None else [tuple(group) for group in together]
    held_out = [name for group in groups for name in group]
    for what, names in (("languages", list(languages)), ("folds", held_out)):
        if not names or not all(name.strip() for name in names):
            raise UserError(f"{what}: expected sign languages (ISO 639-3, such as ase), got {names}.")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{what}: {', '.join(repeated)} is given more than once.")
    folds = [Fold(group, tuple(name for name in languages if name not in group)) for group in groups]
    for fold in folds:
        if not fold.held_out or not fold.train:
            raise UserError(
                f"the fold {fold.name!r} leaves {'no' if not fold.train else 'all'} languages to train on: "
                "expected some that are held out and some that are not."
            )
    return folds


def with_clips_of(features: Config, config: Config) -> Config:
    """The config `features` with the clips and prompts of `config`."""
    chosen = {key: getattr(config.dataset, key) for key in _CLIPS}
    return dataclasses.replace(features, dataset=dataclasses.replace(features.dataset, **chosen))


def check_folds(config: Config, folds: Sequence[Fold], others: Mapping[str, Config]) -> None:
    """Raises UserError for folds that the corpus or the configs do not allow, before any training.

    Those are languages that the corpus does not have, a corpus without languages, and configs of `others`
    (by name) whose SVM would use other clips than the SVM of `config`.
    """
    for fold in folds:
        of_config = _clips(config, fold)
        groups = {example.group for example in of_config["test"]}
        if groups != set(fold.held_out):
            raise UserError(
                f"the fold {fold.name} would be tested on clips of {', '.join(sorted(groups)) or 'none'}: "
                f"leave-one-out needs a corpus of sign languages, not {config.dataset.meta_processor}."
            )
        for name, other in others.items():
            for split, examples in _clips(other, fold).items():
                clips = [(example.video_id, example.text) for example in examples]
                if clips != [(example.video_id, example.text) for example in of_config[split]]:
                    raise UserError(
                        f"{name}: in the fold {fold.name}, its {len(clips)} clips of {split} are not the "
                        f"{len(of_config[split])} of the config that is trained: an SVM on its features "
                        "would be tested on other clips or prompts."
                    )


@dataclass
class FoldResult:
    """The results of a fold.

    correct, svm: bool [N], whether each clip is classified correctly (`correct` may be [seeds, N]).
    other_svms: the same for SVMs on other features, by name. chance: V2T R@1 of random scores. baseline: name
    of the classifier `svm`.
    """

    fold: Fold
    correct: np.ndarray
    svm: np.ndarray
    t2v: float
    chance: float
    other_svms: dict[str, np.ndarray] = field(default_factory=dict)
    baseline: str = SVM

    @property
    def model(self) -> float:
        """V2T R@1 of the model, mean over seeds."""
        return float(self.correct.mean())

    def facts(self) -> dict[str, Any]:
        """The numbers as saved in folds.json."""
        return {
            "held_out": list(self.fold.held_out),
            "train": list(self.fold.train),
            "n": self.correct.shape[-1],
            "chance": self.chance,
            "v2t R@1": self.model,
            "v2t R@1 of each seed": self.correct.mean(-1).tolist(),
            "v2t R@1 interval": list(interval_of_mean(self.correct)),
            "svm": float(self.svm.mean()),
            "svm interval": list(interval_of_mean(self.svm)),
            "svm on other features": {name: float(found.mean()) for name, found in self.other_svms.items()},
            "t2v P@1": self.t2v,
        }


def result_of(fold: Fold, runs: Sequence[Run], config: Config, others: Mapping[str, Config]) -> FoldResult:
    """The result of a fold's finished runs, with SVMs on the features of `config` and of `others`."""
    found = [one for run in runs if (one := run.results())]
    chance = float(found[0]["chance"]["v2t R@1"])
    t2v = float(np.mean([one["t2v"]["P@1"] for one in found]))
    correct = np.stack([run.correct() for run in runs])
    other_svms = {name: svm_baseline(other, fold) for name, other in others.items()}
    name, baseline = run_baseline(config, fold)
    return FoldResult(fold, correct, baseline, t2v, chance, other_svms, name)


def run_baseline(config: Config, fold: Fold) -> tuple[str, np.ndarray]:
    """The baseline of a config, and which test clips of a fold it classifies correctly: bool [N].

    An SVM or, for unseen-alphabet, whose classes are not those of training, kernel ridge.
    """
    if config.eval.protocol == UNSEEN_ALPHABET:
        return RIDGE, ridge_correct(_task(config, fold))
    return SVM, svm_baseline(config, fold)


def svm_baseline(config: Config, fold: Fold) -> np.ndarray:
    """Which test clips of a fold an SVM classifies correctly: bool [N].

    Its features are those of the model, without augmentation, averaged over frames and standardised. RBF
    kernel, C=10 (scikit-learn).
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    task = _task(config, fold)
    train, test = (task.dataset(split, training=False) for split in ("train", "test"))
    svm = make_pipeline(StandardScaler(), SVC(C=10))
    svm.fit(mean_features(train), [example.text for example in train.examples])
    return np.equal(svm.predict(mean_features(test)), [example.text for example in test.examples])


def _task(config: Config, fold: Fold) -> Any:
    """The task with the splits of a fold."""
    from mmpt.tasks import Task

    dataset = dataclasses.replace(
        config.dataset,
        test_languages=list(fold.held_out),
        valid_languages=[],
        train_languages=list(fold.train),
        extra_letters=False,
    )
    return Task(dataclasses.replace(config, dataset=dataset))


def _clips(config: Config, fold: Fold) -> dict[str, Any]:
    """The examples of each split of a fold."""
    task = _task(config, fold)
    return {split: task.dataset(split).examples for split in ("train", "test")}


def table(results: Sequence[FoldResult]) -> str:
    """The results in Markdown: a row for each fold, then the mean over folds.

    Gives 95 % intervals (bootstrap over the clips of each fold), also of the mean paired difference to the
    SVM.
    """
    others = list(results[0].other_svms)
    rows = [
        [
            result.fold.name,
            str(result.correct.shape[-1]),
            f"{result.chance:.3f}",
            _mean([result.correct]),
            _mean([result.svm]),
            f"{result.model - float(result.svm.mean()):+.3f}",
            f"{result.t2v:.3f}",
            *(_mean([result.other_svms[name]]) for name in others),
        ]
        for result in results
    ]
    model, svm = (float(np.mean(values)) for values in zip(*((r.model, r.svm.mean()) for r in results)))
    of_model = [np.atleast_2d(r.correct).mean(0) for r in results]
    svms = {"": [r.svm for r in results]} | {name: [r.other_svms[name] for r in results] for name in others}
    change = interval_of_mean(*(clips - r.svm for clips, r in zip(of_model, results)))
    rows.append(
        [
            f"mean of {len(results)}",
            str(sum(len(clips) for clips in of_model)),
            f"{np.mean([r.chance for r in results]):.3f}",
            with_interval(model, *interval_of_mean(*of_model)),
            _mean(svms[""]),
            difference(model - svm, *change),
            f"{np.mean([r.t2v for r in results]):.3f}",
            *(_mean(svms[name]) for name in others),
        ]
    )
    header = [
        "held out",
        "N",
        "chance",
        "V2T R@1",
        results[0].baseline,
        "difference",
        "T2V P@1",
        *(f"SVM, {name}" for name in others),
    ]
    ahead = " ".join(_ahead(name, results, correct) for name, correct in svms.items())
    return (
        f"{markdown_table(header, rows)}\n\n"
        f"Chance: V2T R@1 of random scores. In brackets: 95 % intervals (bootstrap over clips). {ahead}\n"
    )


def table_csv(results: Sequence[FoldResult]) -> str:
    """The results as CSV, a row for each fold."""
    columns = ("held_out", "n", "chance", "v2t R@1", "svm", "t2v P@1")
    rows = [result.facts() | {"held_out": result.fold.name} for result in results]
    return csv_text([{column: row[column] for column in columns} for row in rows])


def _ahead(name: str, results: Sequence[FoldResult], svm: Sequence[np.ndarray]) -> str:
    which = f"the SVM on the features of {name}" if name else f"the {results[0].baseline}"
    ahead = sum(r.model > correct.mean() for r, correct in zip(results, svm))
    level = sum(r.model == correct.mean() for r, correct in zip(results, svm))
    return f"The model is ahead of {which} in {ahead} of {len(results)} folds, level in {level}."


def _mean(folds: Sequence[np.ndarray]) -> str:
    """The mean of the folds' means, with its interval."""
    return with_interval(float(np.mean([correct.mean() for correct in folds])), *interval_of_mean(*folds))


def picture(path: Path, results: Sequence[FoldResult], title: str) -> Path:
    """Plot the model and the SVMs for each fold, with intervals and chance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 0.8 * len(results) + 2), 4), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(results))
    bars = {"SignCLIP": [r.correct for r in results], results[0].baseline: [r.svm for r in results]}
    for name in results[0].other_svms:
        bars[f"SVM, {name}"] = [r.other_svms[name] for r in results]
    width = 0.8 / len(bars)
    for i, (name, parts) in enumerate(bars.items()):
        means = np.array([float(part.mean()) for part in parts])
        bounds = np.array([interval_of_mean(part) for part in parts]).T
        errors = np.abs(bounds - means)
        label = f"{name} (mean {means.mean():.3f})"
        shift = (i + 0.5) * width - 0.4
        axes.bar(positions + shift, means, width, yerr=errors, label=label, capsize=2)
    chances = [r.chance for r in results]
    axes.hlines(
        chances, positions - 0.5, positions + 0.5, color="black", linewidth=0.8, linestyle=":", label="chance"
    )
    axes.set_xticks(positions, [r.fold.name for r in results])
    axes.set_ylim(0, 1)
    axes.margins(x=0.02)
    axes.set_xlabel("sign language held out")
    axes.set_ylabel("video to text, R@1")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=2)
    return save_figure(figure, path)
