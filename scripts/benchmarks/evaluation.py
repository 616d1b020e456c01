"""Retrieval metrics of mmpt against a plain evaluator that sorts each ranking and loops over it in Python.

Both get the same similarity matrix and must give the same numbers. Measured with few prompts that share clips
(the 35 of RWTH) and with as many prompts as clips. Then the growth of mmpt's time with N, and the time and
peak memory of ranking embeddings whose matrix would not fit.
"""

import argparse
import logging
import statistics
import sys
from typing import Any

import numpy as np

from benchmarks.common import alternate, clocked, exponent, in_own_process, median_ratio
from mmpt.evaluators.metrics.retrieval import metrics_from_ranks, retrieval_metrics

log = logging.getLogger(__name__)

AGAINST = {"plain": "each ranking sorted, and walked in Python"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes and repeats."""
    parser.add_argument("--clips", type=int, default=5000, help="N of the N x N matrix (default 5000)")
    parser.add_argument("--prompts", type=int, default=35, help="prompts of the first case (default 35)")
    parser.add_argument("--repeats", type=int, default=3, help="alternating repeats (default 3)")
    parser.add_argument("--large-clips", type=int, default=100_000, help="0 leaves the large case out")
    parser.add_argument("--large-prompts", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=384, help="of the large case's embeddings (default 384)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return all numbers.

    "summary" is `eval: <ratio>x` for as many prompts as clips.
    """
    few = min(options.prompts, options.clips)
    cases = [_compare(options.clips, prompts, options.repeats) for prompts in (few, options.clips)]
    lines = [
        "",
        f"{'clips':>7} {'prompts':>8} {'plain s':>9} {'ours s':>9} {'ratio':>7} {'in processor time':>18}",
    ]
    for case in cases:
        plain, ours = (statistics.median(case["seconds"][way]["wall"]) for way in ("plain", "ours"))
        numbers = f"{plain:>9.3f} {ours:>9.4f} {case['ratio']:>6.0f}x {case['cpu_ratio']:>17.0f}x"
        lines.append(f"{case['clips']:>7} {case['prompts']:>8} {numbers}")
    growth = _growth(options.clips, options.repeats)
    lines += ["", "ours as N grows (N prompts, N clips), processor time:"]
    lines += [f"{n:>7} {t:>9.4f} s" for n, t in zip(growth["clips"], growth["seconds"])]
    lines.append(f"  seconds grow as N^{growth['exponent']:.2f}")
    found: dict[str, Any] = {"cases": cases, "growth": growth}
    if options.large_clips:
        large = _large(options.large_clips, options.large_prompts, options.width)
        found["large"] = large
        lines += ["", _large_line(large)]
    sys.stdout.write("\n".join(lines) + "\n")
    return found | {"summary": f"eval: {cases[-1]['ratio']:.0f}x"}


def plain_metrics(similarity: np.ndarray, texts: list[str]) -> dict[str, dict[str, float]]:
    """The same metrics with plain loops: argsort each row and column, then loop over it in Python."""
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        first.setdefault(text, i)
    ks, n = (1, 5, 10), len(texts)
    right, places = dict.fromkeys(ks, 0), []
    for text, row in first.items():
        place = None
        for position, video in enumerate(np.argsort(-similarity[row], kind="stable"), start=1):
            if texts[video] == text:
                place = position if place is None else place
                for k in ks:
                    right[k] += position <= k
        places.append(place)
    t2v = {f"P@{k}": right[k] / (k * len(first)) for k in ks} | {f"R@{k}": right[k] / n for k in ks}
    t2v |= {"MedianR": float(np.median(places)), "MeanR": float(np.mean(places))}
    found, places = dict.fromkeys(ks, 0), []
    for video, text in enumerate(texts):
        ranked: list[str] = []
        seen: set[str] = set()
        for row in np.argsort(-similarity[:, video], kind="stable"):
            if texts[row] not in seen:
                seen.add(texts[row])
                ranked.append(texts[row])
        place = ranked.index(text) + 1
        places.append(place)
        for k in ks:
            found[k] += place <= k
    v2t = {f"R@{k}": found[k] / n for k in ks}
    v2t |= {"MedianR": float(np.median(places)), "MeanR": float(np.mean(places))}
    return {"t2v": t2v, "v2t": v2t}


def _example(clips: int, prompts: int) -> tuple[np.ndarray, list[str]]:
    """A matrix [clips, clips] as of a fair model: the own prompt ranks high, but not always first."""
    random = np.random.default_rng(0)
    ids = np.arange(clips) % prompts
    scores = random.standard_normal((prompts, clips), dtype=np.float32)
    scores[ids, np.arange(clips)] += 2
    return scores[ids], [f"Fingerspell the letter {i}." for i in ids]


def _compare(clips: int, prompts: int, repeats: int) -> dict[str, Any]:
    similarity, texts = _example(clips, prompts)
    results: dict[str, Any] = {}

    def way(name: str, function: Any) -> Any:
        return lambda: results.update({name: function(similarity, texts)})

    log.info("%d clips, %d prompts: %d repeats", clips, prompts, repeats)
    ours = way("ours", retrieval_metrics)
    ours()  # the first call also pays for memory that later ones find ready
    times = alternate({"plain": way("plain", plain_metrics), "ours": ours}, repeats)
    for direction, metrics in results["plain"].items():
        for name, value in metrics.items():
            assert abs(results["ours"][direction][name] - value) < 1e-12, (direction, name)
    taken = {
        name: {"wall": [t.wall for t in some], "cpu": [t.cpu for t in some]} for name, some in times.items()
    }
    return {
        "clips": clips,
        "prompts": prompts,
        "seconds": taken,
        "ratio": median_ratio(taken["plain"]["wall"], taken["ours"]["wall"]),
        "cpu_ratio": median_ratio(taken["plain"]["cpu"], taken["ours"]["cpu"]),
        "metrics": results["ours"],
    }


def _growth(largest: int, repeats: int) -> dict[str, Any]:
    sizes = [max(2, largest // 4), max(2, largest // 2), largest, 2 * largest]
    times = []
    for n in sizes:
        similarity, texts = _example(n, n)
        samples = [clocked(lambda s=similarity, t=texts: retrieval_metrics(s, t)).cpu for _ in range(repeats)]
        times.append(statistics.median(samples))
    return {"clips": sizes, "seconds": times, "exponent": exponent(sizes, times)}


def _large(clips: int, prompts: int, width: int) -> dict[str, Any]:
    log.info("%d clips x %d prompts, width %d, in blocks, in a process of its own", clips, prompts, width)
    (taken, inputs, metrics), peak = in_own_process(_rank_large, clips, prompts, width)
    matrix = clips * prompts * 4
    return {
        "clips": clips,
        "prompts": prompts,
        "width": width,
        "seconds": taken,
        "peak_bytes": peak,
        "input_bytes": inputs,
        "matrix_bytes": matrix,
        "metrics": metrics,
    }


def _rank_large(clips: int, prompts: int, width: int) -> tuple[float, int, dict[str, Any]]:
    from mmpt.evaluators.metrics.similarity import rank_embeddings

    random = np.random.default_rng(0)
    text = random.standard_normal((prompts, width), dtype=np.float32)
    ids = random.integers(0, prompts, size=clips)
    video = random.standard_normal((clips, width), dtype=np.float32)
    video *= 4
    for start in range(0, clips, 4096):
        video[start : start + 4096] += text[ids[start : start + 4096]]
    ranks: list[Any] = []
    taken = clocked(lambda: ranks.append(rank_embeddings(text, video, ids)))
    return taken.wall, text.nbytes + video.nbytes, metrics_from_ranks(ranks[0])


def _large_line(large: dict[str, Any]) -> str:
    return (
        f"{large['clips']} clips x {large['prompts']} prompts, width {large['width']}, in blocks: "
        f"{large['seconds']:.1f} s, peak memory {large['peak_bytes'] / 2**20:.0f} MiB in all "
        f"(embeddings {large['input_bytes'] / 2**20:.0f}, the matrix would be "
        f"{large['matrix_bytes'] / 2**20:.0f})"
    )
