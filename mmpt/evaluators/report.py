"""A finished evaluation: a dictionary of results, and a folder with it, its pictures and its embeddings."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.bootstrap import bootstrap_intervals
from mmpt.evaluators.labels import short_labels
from mmpt.evaluators.ranking import Ranks
from mmpt.evaluators.retrieval import metrics_from_ranks
from mmpt.evaluators.similarity import nearest_prompts, rank_embeddings
from mmpt.evaluators.tables import all_metrics_markdown, format_markdown, markdown_table, name_of
from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write, read_json, write_json, write_text

_PROMPTS_LISTED = 100  # in results.md
_PICTURES = ("confusion_matrix.png", "per_class.png")


def make_results(
    text_embeddings: ArrayLike,
    video_embeddings: ArrayLike,
    prompt_ids_of_videos: ArrayLike,
    kind: str = "cosine",
    *,
    checkpoint: str | None = None,
    config: str | None = None,
    command: str | None = None,
    seed: int | None = None,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Metrics of a model on a set of clips, as saved in results.json.

    text_embeddings: [n_prompts, H], one row for each distinct prompt. video_embeddings: [n_videos, H].
    prompt_ids_of_videos: integers [n_videos], the row of each clip's prompt. kind: "cosine" or "dot".
    checkpoint, config, command: what made the model and this evaluation, kept as given. seed: the training
    seed; the bootstrap has its own, fixed one. resamples: of the bootstrap; 0 for no intervals. Returns
    {"t2v", "v2t", "intervals", "bootstrap", "n_videos", "n_prompts", "chance", "similarity", "checkpoint",
    "config", "command", "seed"}; "chance" is what random scores give on average, "V2T R@1" = 1/n_prompts and
    so on. Raises UserError if the arrays do not fit or hold NaN.
    """
    ranks = rank_embeddings(text_embeddings, video_embeddings, prompt_ids_of_videos, kind)
    n_prompts, n_videos = len(np.asarray(text_embeddings)), len(ranks.v2t)
    results: dict[str, Any] = dict(metrics_from_ranks(ranks))
    results["intervals"] = {}
    if resamples:
        results["intervals"] = bootstrap_intervals(ranks, resamples, level)
        results["bootstrap"] = {
            "over": {"v2t": "clips", "t2v": "prompts"},
            "resamples": resamples,
            "level": level,
        }
    results |= {"n_videos": n_videos, "n_prompts": n_prompts, "chance": chance(ranks, n_prompts)}
    results |= {
        "similarity": kind,
        "checkpoint": checkpoint,
        "config": config,
        "command": command,
        "seed": seed,
    }
    return results


def chance(ranks: Ranks, n_prompts: int) -> dict[str, float]:
    """What scores drawn at random give on average: {"t2v P@k", "t2v R@k", "v2t R@k"} for the k of
    `ranks.hits`.
    """
    n_videos = len(ranks.v2t)
    expected: dict[str, float] = {}
    share = float(np.mean(ranks.relevant / n_videos))
    for k in sorted(ranks.hits):
        expected[f"t2v P@{k}"] = share * min(k, n_videos) / k
        expected[f"t2v R@{k}"] = min(k, n_videos) / n_videos
        expected[f"v2t R@{k}"] = min(k, n_prompts) / n_prompts
    return expected


def save_report(
    folder: str | os.PathLike[str],
    results: dict[str, Any],
    text_embeddings: ArrayLike,
    video_embeddings: ArrayLike,
    prompt_ids_of_videos: ArrayLike,
    prompts: Sequence[str],
    video_ids: Sequence[str],
    plots: bool = True,
) -> list[Path]:
    """Write an evaluation into `folder`, each file whole or not at all; returns the files, results.json last.
    That of an earlier evaluation is deleted first: it never stands beside files that it does not tell of.

    results: from `make_results` on the same arrays. prompts: [n_prompts] strings; video_ids: [n_videos]
    strings.
    Files: text_embeddings.npy and video_embeddings.npy (float32), ids.json ({"prompts", "videos",
    "prompt_of_video", "nearest_prompt"}), results.md, results.json and, with `plots`, confusion_matrix.png
    and per_class.png. Raises UserError if the lists and arrays are of different lengths.
    """
    folder = Path(folder)
    texts, videos = np.asarray(text_embeddings, np.float32), np.asarray(video_embeddings, np.float32)
    truth = np.asarray(prompt_ids_of_videos)
    if len(prompts) != len(texts) or len(video_ids) != len(videos) or len(truth) != len(videos):
        raise UserError(
            f"expected one name for each embedding, got {len(prompts)} prompts for {len(texts)} text "
            f"embeddings, {len(video_ids)} ids and {len(truth)} prompt numbers for {len(videos)} video "
            "embeddings."
        )
    predicted = nearest_prompts(texts, videos, results["similarity"])
    labels = short_labels(prompts)
    written: list[Path] = []
    for name in ("results.json", "results.md", *_PICTURES):
        (folder / name).unlink(missing_ok=True)
    for name, array in (("text_embeddings.npy", texts), ("video_embeddings.npy", videos)):
        with atomic_write(folder / name) as temporary:
            np.save(temporary, array)
        written.append(folder / name)
    ids = {
        "prompts": list(prompts),
        "videos": list(video_ids),
        "prompt_of_video": truth.tolist(),
        "nearest_prompt": predicted.tolist(),
    }
    write_json(folder / "ids.json", ids)
    written.append(folder / "ids.json")
    if plots:
        from mmpt.evaluators import plots as pictures  # matplotlib is heavy

        for name, draw in zip(_PICTURES, (pictures.confusion_matrix, pictures.per_class)):
            written.append(draw(folder / name, truth, predicted, labels, results))
    write_text(folder / "results.md", _markdown(results, truth, predicted, labels, plots))
    write_json(folder / "results.json", results)
    return [*written, folder / "results.md", folder / "results.json"]


def _markdown(
    results: dict[str, Any], truth: NDArray, predicted: NDArray, labels: Sequence[str], plots: bool
) -> str:
    parts = [f"# {name_of(results)}\n", format_markdown(results)]
    origin = [
        f"- {key}: `{results[key]}`"
        for key in ("config", "checkpoint", "command", "seed")
        if results.get(key)
    ]
    if origin:
        parts.append("\n".join(origin) + "\n")
    parts += ["## All metrics\n", all_metrics_markdown(results)]
    if plots:
        parts.append("![confusion matrix](confusion_matrix.png)\n\n![recall by prompt](per_class.png)\n")
    parts += ["## By prompt (V2T)\n", _per_class_markdown(truth, predicted, labels)]
    return "\n".join(parts)


def _per_class_markdown(truth: NDArray, predicted: NDArray, labels: Sequence[str]) -> str:
    """Clips, R@1 and the commonest mistakes of each prompt; of very many prompts those with most mistakes."""
    clips = np.bincount(truth, minlength=len(labels))
    right = np.bincount(truth[truth == predicted], minlength=len(labels))
    prompts = np.flatnonzero(clips)
    note = ""
    if len(prompts) > _PROMPTS_LISTED:
        note = f"The {_PROMPTS_LISTED} prompts with the most mistakes, of {len(prompts)}.\n\n"
        worst_first = np.argsort(right[prompts] - clips[prompts], kind="stable")
        prompts = np.sort(prompts[worst_first[:_PROMPTS_LISTED]])
    rows = []
    for prompt in prompts:
        chosen = predicted[truth == prompt]
        wrong, counts = np.unique(chosen[chosen != prompt], return_counts=True)
        commonest = np.argsort(-counts, kind="stable")[:3]
        taken_for = ", ".join(f"{labels[wrong[i]]} ({counts[i]})" for i in commonest)
        rows.append([labels[prompt], str(clips[prompt]), f"{right[prompt] / clips[prompt]:.3f}", taken_for])
    return note + markdown_table(["prompt", "clips", "R@1", "taken for"], rows) + "\n"


def read_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a results.json, or of the one in a folder. Raises UserError if it is missing or is not
    one.
    """
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    try:
        results = read_json(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); evaluate first, then look there."
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: not the results.json of an evaluation ({error}).") from error
    needed = ("t2v", "v2t", "n_videos", "n_prompts", "chance", "similarity")
    missing = [key for key in needed if key not in results] if isinstance(results, dict) else list(needed)
    if missing:
        raise UserError(f"{path}: not the results.json of an evaluation, it lacks {', '.join(missing)}.")
    return results
