"""Compute the results of a retrieval evaluation and save them in a folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.metrics.bootstrap import bootstrap_intervals
from mmpt.evaluators.metrics.ranking import Ranks, join_ranks
from mmpt.evaluators.metrics.retrieval import metrics_from_ranks
from mmpt.evaluators.metrics.similarity import nearest_prompts, rank_embeddings
from mmpt.evaluators.pictures.labels import short_labels
from mmpt.evaluators.reports.tables import (
    METRICS_HEADER,
    code_span,
    escape_markdown,
    format_markdown,
    markdown_table,
    metrics_rows,
    name_of,
)
from mmpt.evaluators.reports.view import CLIPS, REPORT, Answers, ShownClip, evaluation_view
from mmpt.page.report import report_html, view_of_report
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json, write_json, write_text
from mmpt.utils.output_kinds import EVALUATION
from mmpt.utils.outputs import real_folder, replace_output

LEVEL = 0.95
"""Coverage of the intervals."""
_PROMPTS_LISTED = 100  # in results.md
_PICTURES = ("confusion_matrix.png", "per_class.png")


@dataclass(frozen=True)
class EmbeddedSplit:
    """Embeddings of a split's prompts and clips. Raises UserError if lengths differ.

    texts: [P, H], one row for each distinct prompt. videos: [N, H]. labels: integers [N], the row of each
    clip's prompt. prompts: P strings. video_ids: N strings. groups: N names; a clip is then ranked against
    the prompts of its group's clips only, and a prompt against the clips of the group.
    """

    texts: NDArray
    videos: NDArray
    labels: NDArray
    prompts: Sequence[str]
    video_ids: Sequence[str]
    groups: Sequence[str] | None = None

    def blocks(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The rows of prompts and of clips that are ranked against each other."""
        if self.groups is None:
            return [(np.arange(len(self.texts)), np.arange(len(self.videos)))]
        names, labels = np.asarray(self.groups), np.asarray(self.labels)
        clips = [np.flatnonzero(names == name) for name in dict.fromkeys(self.groups)]
        return [(np.unique(labels[rows]), rows) for rows in clips]

    def ranks(self, kind: str) -> Ranks:
        """Ranks of clips and prompts, of all blocks together; kind: "cosine" or "dot"."""
        parts = []
        for prompts, clips in self.blocks():
            labels = np.searchsorted(prompts, np.asarray(self.labels)[clips])
            parts.append(rank_embeddings(self.texts[prompts], self.videos[clips], labels, kind))
        return parts[0] if len(parts) == 1 else join_ranks(parts, [clips for _, clips in self.blocks()])

    def nearest(self, kind: str) -> NDArray[np.int64]:
        """The row of each clip's nearest prompt, int64 [N], among those it is ranked against."""
        found = np.empty(len(self.videos), dtype=np.int64)
        for prompts, clips in self.blocks():
            found[clips] = prompts[nearest_prompts(self.texts[prompts], self.videos[clips], kind)]
        return found

    def __post_init__(self) -> None:
        n_texts, n_videos = len(self.texts), len(self.videos)
        if (
            len(self.prompts) != n_texts
            or not len(self.video_ids) == len(self.labels) == n_videos
            or (self.groups is not None and len(self.groups) != n_videos)
        ):
            raise UserError(
                f"expected one name for each embedding, got {len(self.prompts)} prompts for {n_texts} text "
                f"embeddings, {len(self.video_ids)} ids and {len(self.labels)} prompt numbers for {n_videos} "
                "video embeddings."
            )


@dataclass(frozen=True)
class ClipAnswers:
    """The answer to each of a split's N clips, of a protocol that does not give its nearest prompt.

    name, noun: of the answers and of a class. given: prompt numbers [N], -1 for a clip that was no query.
    ranks: of the right class [N]. right: share of right answers [N], NaN for a clip that was no query.
    pictures: whether to draw the classes. candidates: see Answers.
    """

    name: str
    noun: str
    given: NDArray[np.int64]
    ranks: NDArray[np.int64] | None
    right: NDArray[np.float64]
    pictures: bool = True
    candidates: int | None = None


def make_results(split: EmbeddedSplit, kind: str = "cosine", resamples: int = 1000) -> dict[str, Any]:
    """Metrics of a model on a split, as saved in results.json.

    kind: "cosine" or "dot". resamples: of the bootstrap; 0 for no intervals. Returns {"t2v", "v2t",
    "intervals", "bootstrap", "n_videos", "n_prompts", "chance", "similarity"}; "chance" is the expected value
    for random scores. Raises UserError if the arrays do not fit or hold NaN.
    """
    ranks = split.ranks(kind)
    n_prompts = len(split.texts)
    results: dict[str, Any] = dict(metrics_from_ranks(ranks))
    results["intervals"] = {}
    if resamples:
        results["intervals"] = bootstrap_intervals(ranks, resamples, LEVEL)
        over = {"v2t": "clips", "t2v": "prompts"}
        results["bootstrap"] = {"over": over, "resamples": resamples, "level": LEVEL}
    results |= {"n_videos": len(ranks.v2t), "n_prompts": n_prompts}
    results["chance"] = chance(ranks, [(len(prompts), len(clips)) for prompts, clips in split.blocks()])
    return results | {"similarity": kind}


def chance(ranks: Ranks, sizes: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Expected metrics of random scores: {"t2v P@k", "t2v R@k", "v2t R@k"} for the k of `ranks.hits`.

    sizes: numbers of prompts and clips of each block, in the order of the queries of `ranks`.
    """
    prompts, clips = np.array(sizes).T
    queries = prompts if len(sizes) > 1 else np.array([len(ranks.queries)])  # a prompt may have no clip
    of_query = np.repeat(clips, queries)
    expected: dict[str, float] = {}
    for k in sorted(ranks.hits):
        hits = ranks.relevant * np.minimum(k, of_query) / of_query
        expected[f"t2v P@{k}"] = float(hits.mean()) / k
        expected[f"t2v R@{k}"] = float(hits.sum() / ranks.relevant.sum())
        expected[f"v2t R@{k}"] = float(np.average(np.minimum(k, prompts) / prompts, weights=clips))
    return expected


def save_report(
    folder: str | os.PathLike[str],
    results: dict[str, Any],
    split: EmbeddedSplit,
    plots: bool = True,
    force: bool = False,
    clips: Sequence[ShownClip] = (),
    answers: ClipAnswers | None = None,
) -> list[Path]:
    """Write the report of an evaluation into `folder`. Returns the files, results.json last.

    Replaces the results of an earlier evaluation of the same checkpoint and split together; force: of others
    too (see replace_output). The files are text_embeddings.npy and video_embeddings.npy (float32), ids.json
    ({"prompts", "videos", "prompt_of_video", "nearest_prompt"}; with `answers` also "right"), report.html,
    results.md, results.json and, with `plots`, confusion_matrix.png and per_class.png. results: what
    `make_results` or a protocol returned for `split`. clips: the files of the split's clips, whose poses
    report.html shows; without them it has no poses. answers: None: the nearest prompts.
    """
    folder = Path(folder)
    texts, videos = np.asarray(split.texts, np.float32), np.asarray(split.videos, np.float32)
    truth = np.asarray(split.labels)
    predicted = split.nearest(results["similarity"]) if answers is None else answers.given
    labels = short_labels(split.prompts)
    ids: dict[str, Any] = {
        "prompts": list(split.prompts),
        "videos": list(split.video_ids),
        "prompt_of_video": truth.tolist(),
        "nearest_prompt": predicted.tolist(),
    }
    if answers is not None:
        ids["right"] = [None if np.isnan(share) else float(share) for share in answers.right]
    asked = np.flatnonzero(predicted >= 0)
    shown = list(clips) or [ShownClip(name) for name in split.video_ids]
    view = evaluation_view(results, _answers(split, results, predicted, answers), [shown[n] for n in asked])
    plots = plots and (answers is None or answers.pictures)
    of = evaluated(folder, results.get("checkpoint"), results.get("split"))
    with replace_output(folder, EVALUATION, of, force) as fresh:
        np.save(fresh / "text_embeddings.npy", texts)
        np.save(fresh / "video_embeddings.npy", videos)
        write_json(fresh / "ids.json", ids)
        if plots:
            from mmpt.evaluators.pictures import confusions  # matplotlib is slow to import

            for name, draw in zip(_PICTURES, (confusions.confusion_matrix, confusions.per_class)):
                draw(fresh / name, truth[asked], predicted[asked], split.prompts, _drawn(results))
        write_text(fresh / "results.md", _markdown(results, truth[asked], predicted[asked], labels, plots))
        write_text(fresh / REPORT, report_html(view))
        write_json(fresh / "results.json", results)
    pictures = _PICTURES if plots else ()
    names = ("text_embeddings.npy", "video_embeddings.npy", "ids.json", *pictures, REPORT, "results.md")
    return [folder / name for name in (*names, "results.json")]


def _drawn(results: dict[str, Any]) -> dict[str, Any]:
    """Results with the R@1 that the pictures name: of a search by clips, that of its classes."""
    if "v2v" not in results:
        return results
    chance = {"v2t R@1": results["chance"]["v2v R@1"]}
    return results | {"v2t": results["v2v"], "chance": chance, "noun": "class"}


def _answers(
    split: EmbeddedSplit, results: dict[str, Any], predicted: NDArray[np.int64], of: ClipAnswers | None
) -> Answers:
    """What report.html shows of the clips that were queries."""
    truth, asked = np.asarray(split.labels), predicted >= 0
    if of is not None:
        ranks = None if of.ranks is None else of.ranks[asked]
        return Answers(of.name, of.noun, split.prompts, truth[asked], predicted[asked], ranks, of.candidates)
    ranks = split.ranks(results["similarity"]).v2t if len(truth) <= CLIPS else None
    candidates = len(split.prompts) if split.groups is None else None
    return Answers("nearest prompt", "prompt", split.prompts, truth, predicted, ranks, candidates)


def evaluated(folder: str | os.PathLike[str], checkpoint: object, split: object) -> dict[str, Any]:
    """What an evaluation in `folder` is of: split and checkpoint, relative, so that a run can be moved."""
    of = {"split": split}
    if checkpoint:
        of["checkpoint"] = os.path.relpath(str(checkpoint), real_folder(folder))
    return of


def _markdown(
    results: dict[str, Any], truth: NDArray, predicted: NDArray, labels: Sequence[str], plots: bool
) -> str:
    parts = [f"# {escape_markdown(name_of(results))}\n", format_markdown(results)]
    origin = [
        f"- {key}: {code_span(results[key])}"
        for key in ("config", "checkpoint", "command", "seed")
        if results.get(key)
    ]
    if origin:
        parts.append("\n".join(origin) + "\n")
    parts += ["## All metrics\n", markdown_table(METRICS_HEADER, metrics_rows(results)) + "\n"]
    if plots:
        parts.append("![confusion matrix](confusion_matrix.png)\n\n![recall by prompt](per_class.png)\n")
    parts += [
        "## By prompt (V2T)\n" if "v2t" in results else "## By sign (first gallery of each clip)\n",
        _per_class_markdown(truth, predicted, labels),
    ]
    return "\n".join(parts)


def _per_class_markdown(truth: NDArray, predicted: NDArray, labels: Sequence[str]) -> str:
    """Clips, R@1 and the most frequent confusions of each prompt; at most the 100 with most errors."""
    clips = np.bincount(truth, minlength=len(labels))
    right = np.bincount(truth[truth == predicted], minlength=len(labels))
    prompts = np.flatnonzero(clips)
    note = ""
    if len(prompts) > _PROMPTS_LISTED:
        note = f"The {_PROMPTS_LISTED} prompts with the most errors, of {len(prompts)}.\n\n"
        worst_first = np.argsort(right[prompts] - clips[prompts], kind="stable")
        prompts = np.sort(prompts[worst_first[:_PROMPTS_LISTED]])
    rows = []
    for prompt in prompts:
        chosen = predicted[truth == prompt]
        wrong, counts = np.unique(chosen[chosen != prompt], return_counts=True)
        commonest = np.argsort(-counts, kind="stable")[:3]
        confusions = ", ".join(f"{labels[wrong[i]]} ({counts[i]})" for i in commonest)
        rows.append([labels[prompt], str(clips[prompt]), f"{right[prompt] / clips[prompt]:.3f}", confusions])
    return note + markdown_table(["prompt", "clips", "R@1", "taken for"], rows) + "\n"


def read_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a results.json, or the one in a folder. Raises UserError if it is missing or invalid."""
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    try:
        results = read_json(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); evaluate the model first.") from error
    except ValueError as error:
        raise UserError(f"{path}: not the results.json of an evaluation ({error}).") from error
    needed = ["t2v", "v2t", "n_videos", "n_prompts", "chance", "similarity"]
    if isinstance(results, dict) and "v2v" in results:
        needed = needed[2:]
    missing = [key for key in needed if key not in results] if isinstance(results, dict) else needed
    if missing:
        raise UserError(f"{path}: not the results.json of an evaluation: {', '.join(missing)} missing.")
    return results


def read_view(folder: Path) -> dict[str, Any]:
    """The view of an evaluation's folder, without poses if it has no report.html (older versions).

    Raises UserError if it holds no evaluation.
    """
    report = folder / REPORT
    if report.is_file():
        return view_of_report(report)
    results = read_results(folder)
    try:
        ids = read_json(folder / "ids.json")
        truth, given = (np.asarray(ids[key], np.int64) for key in ("prompt_of_video", "nearest_prompt"))
        asked = np.flatnonzero(given >= 0)
        clips = [ShownClip(str(ids["videos"][n])) for n in asked]
        name, noun = ("nearest gallery clip", "sign") if "v2v" in results else ("nearest prompt", "prompt")
        answers = Answers(name, noun, list(map(str, ids["prompts"])), truth[asked], given[asked])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{folder / 'ids.json'}: cannot be read ({error}): evaluate the model again."
        ) from error
    return evaluation_view(results, answers, clips)
