#!/usr/bin/env python
"""One-shot search of a config's split without a network, beside a model: means of features, and DTW.

    python scripts/one_shot_baselines.py projects/signclip/test_fslex_demo.yaml --results runs/one_shot

Ranks the galleries of eval.protocol one-shot (mmpt/evaluators/metrics/one_shot.py) by the features that the
config's model reads, standardised by the frames of the training split: dynamic time warping (Euclidean,
divided by the sum of both lengths), cosine of the means over frames, and the same after linear discriminant
analysis (LDA) of the training clips, which, like the model, knows their prompts. --results: a folder of
`signclip evaluate` with that protocol, whose model is compared with each baseline. Differences and intervals
(95 %, bootstrap over signs) are paired. Nothing is chosen on the test.
"""

import argparse
import sys
from pathlib import Path

from mmpt.cli import run_cli

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mmpt.config import load_config
from mmpt.evaluators.metrics.bootstrap import resampling_weights
from mmpt.evaluators.metrics.one_shot import OneShot, rank_trials, rank_trials_by
from mmpt.evaluators.metrics.tied_ranks import tied_rank_chance, tied_rank_intervals, tied_rank_metrics
from mmpt.evaluators.protocols.one_shot import trials_of
from mmpt.evaluators.reports.results import read_results
from mmpt.evaluators.reports.tables import markdown_table
from mmpt.tasks.task import Task
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json
from mmpt.utils.text import counted

SHOWN = ("MRR", "R@1", "R@5", "R@10", "DCG")


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("config", help="config of the split")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--results", type=Path, help="evaluation of a model by protocol one-shot")
    return run_cli(measure, parser.parse_args(argv))


def measure(args: argparse.Namespace) -> int:
    """Print a row for each method."""
    config = load_config(args.config, args.overrides)
    task = Task(config)
    split, train = (task.dataset(name, training=False) for name in (config.dataset.split or "test", "train"))
    trials = trials_of(split.examples, config.eval)
    known = [np.asarray(train[n]["vfeats"]) for n in range(len(train.examples))]
    frames = np.concatenate(known)
    mean, spread = frames.mean(axis=0), np.maximum(frames.std(axis=0), 1e-6)
    clips = [(np.asarray(split[n]["vfeats"]) - mean) / spread for n in range(len(split.examples))]
    means = np.stack([clip.mean(axis=0) for clip in clips])
    distance = np.array([[dtw(one, other) for other in clips] for one in clips])
    found = {
        "DTW on features": rank_trials_by(lambda rows, gallery: -distance[np.ix_(rows, gallery)], trials),
        "mean of features, cosine": rank_trials(means, trials),
    }
    prompts = [example.text for example in train.examples]
    if enough := 1 < len(set(prompts)) < len(prompts):
        lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
        lda.fit([((clip - mean) / spread).mean(axis=0) for clip in known], prompts)
        found["mean of features, LDA, cosine"] = rank_trials(lda.transform(means), trials)
    if args.results:
        names = [example.video_id for example in split.examples]
        read_results(args.results)  # raises if it holds no evaluation
        if read_json(args.results / "ids.json")["videos"] != names:
            raise UserError(f"{args.results}: not an evaluation of the clips of this split.")
        found["model"] = rank_trials(np.load(args.results / "video_embeddings.npy"), trials)
    first = next(iter(found.values()))
    chance = tied_rank_chance(first.candidates)
    rows = [_row(name, found) for name in found]
    rows.append(["chance", *(f"{chance[name]:.3f}" for name in SHOWN), ""])
    print(markdown_table(["method", *SHOWN, "model's MRR - this"], rows))
    print(
        f"\n{len(first.clip)} pairs of query and gallery ({trials.queries}), {len(set(first.sign))} signs, "
        f"{counted(trials.draws, 'draw')} of the galleries. In brackets: 95 % intervals (by sign)"
    )
    if not enough:
        print(
            f"no LDA: training has {counted(len(prompts), 'clip')} of {counted(len(set(prompts)), 'prompt')}"
            "; it needs two prompts, and more clips than prompts"
        )
    return 0


def dtw(one: np.ndarray, other: np.ndarray) -> float:
    """Length of the cheapest warping path of two clips [T, D], divided by the sum of their lengths."""
    cost = np.linalg.norm(one[:, None] - other[None], axis=2)
    total = np.full((len(one) + 1, len(other) + 1), np.inf)
    total[0, 0] = 0
    for i, row in enumerate(cost, start=1):
        for j, here in enumerate(row, start=1):
            total[i, j] = here + min(total[i - 1, j - 1], total[i - 1, j], total[i, j - 1])
    return float(total[-1, -1]) / (len(one) + len(other))


def _row(name: str, found: dict[str, OneShot]) -> list[str]:
    one, model = found[name], found.get("model")
    metrics, intervals = tied_rank_metrics(one.ranks), tied_rank_intervals(one.ranks, one.sign)
    cells = [f"{metrics[m]:.3f} ({intervals[m][0]:.3f}-{intervals[m][1]:.3f})" for m in SHOWN]
    return [name, *cells, "" if model is None or model is one else _difference(model, one)]


def _difference(model: OneShot, other: OneShot) -> str:
    """Of the MRR, paired, with whole signs resampled."""
    gain = model.ranks.mean(lambda rank: 1 / rank) - other.ranks.mean(lambda rank: 1 / rank)
    _, sign = np.unique(model.sign, return_inverse=True)
    sums, sizes = np.bincount(sign, gain), np.bincount(sign)
    drawn = np.concatenate([w @ sums / (w @ sizes) for w in resampling_weights(len(sums), 2000, 0)])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{gain.mean():+.3f} ({low:+.3f} to {high:+.3f})"


if __name__ == "__main__":
    sys.exit(main())
