"""Retrieval metrics and k-NN of mmpt against numpy, torch and scikit-learn, or against plain loops.

peer: the same numbers by counting in numpy and in torch (the faster one of each size is the peer), of
similarities with 35 to 5,000 prompts of 5,000 clips; and k-NN against scikit-learn, which predicts a class
where mmpt ranks all, with the growth of mmpt's time and of what is not its matrix product. plain: each
ranking sorted and walked in Python; then the growth of mmpt's time, and ranking embeddings whose matrix would
not fit. All ways must give the same numbers.
--scale N also runs whole protocols on N clips, each in a process of its own, with time and peak memory.
"""

import argparse
import logging
import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import peer_evaluation as peers
from benchmarks.common import alternate, clocked, exponent, in_own_process, median_ratio
from benchmarks.plain_evaluation import plain_metrics
from mmpt.evaluators.metrics.ranks import class_ranks
from mmpt.evaluators.metrics.retrieval import metrics_from_ranks, rank_metrics, retrieval_metrics
from mmpt.evaluators.recognition.classifiers import BLOCK, Judged, Support, judge, unit
from mmpt.evaluators.recognition.neighbours import nearest_neighbours, neighbours, votes

log = logging.getLogger(__name__)

AGAINST = {
    "peer": "ranks by counting in numpy or torch, the faster of both; k-NN of scikit-learn",
    "plain": "each ranking sorted, and walked in Python",
}
K = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes and repeats."""
    parser.add_argument("--clips", type=int, default=5000, help="clips of a matrix (default 5000)")
    sizes = [35, 100, 1000, 5000]
    parser.add_argument(
        "--prompts", nargs="+", type=int, default=sizes, help="numbers of prompts (default 35 100 1000 5000)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="alternating repeats (default 5)")
    knn = [1000, 2000, 4000, 8000]
    parser.add_argument("--knn", nargs="*", type=int, default=knn, help="queries, and clips of the support")
    parser.add_argument(
        "--classes", type=int, default=100, help="number of classes of k-NN and --scale (default 100)"
    )
    parser.add_argument("--large-clips", type=int, default=100_000, help="plain: 0 leaves the large case out")
    parser.add_argument("--large-prompts", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=384, help="dimension of the embeddings (default 384)")
    parser.add_argument("--scale", type=int, default=0, metavar="N", help="whole protocols on N clips")
    scaled = ["zero_shot", "v2v", "knn", "prototypes"]
    parser.add_argument(
        "--protocols",
        nargs="+",
        choices=[*scaled, "linear_probe"],
        default=scaled,
        help="protocols of --scale (default: without linear_probe)",
    )
    parser.add_argument("--c", type=float, default=1.0, help="C of linear_probe with --scale (default 1)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print tables, and return all numbers; "summary" gives the ratios."""
    log.info("metrics of %d clips", options.clips)
    prompts = [min(prompts, options.clips) for prompts in options.prompts]
    if options.against == "plain":
        found = _against_plain(prompts, options)
    else:
        found = _against_peer(prompts, options)
    if options.scale:
        found["scale"] = []
        for name in options.protocols:
            row = _scaled(name, options)
            found["scale"].append(row)
            sys.stdout.write(
                f"{row['protocol']:<12} {options.scale} clips x {options.classes} classes: "
                f"{row['seconds']:.0f} s, {row['cpu']:.0f} s of processor time, "
                f"peak memory {row['peak_bytes'] / 2**20:.0f} MiB (embeddings and imports "
                f"{row['before_bytes'] / 2**20:.0f})\n"
            )
    return found


def _against_peer(prompts: list[int], options: argparse.Namespace) -> dict[str, Any]:
    cases = [_peer_case(options.clips, n, options.repeats) for n in prompts]
    lines = ["", _HEAD.format("clips", "prompts")]
    lines += [_row(case["clips"], case["prompts"], case) for case in cases]
    parts = [f"{case['ratio']:.2f}x ({case['prompts']} prompts)" for case in reversed(cases)]
    memory = {
        way: in_own_process(_metrics_once, way, options.clips, prompts[-1])[1]
        for way in ("none", "mmpt", cases[-1]["peer"])
    }
    lines.append(
        "  peak memory of the last, with the matrix made: "
        + ", ".join(f"{way} {peak / 2**20:.0f} MiB" for way, peak in memory.items())
    )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    found: dict[str, Any] = {"cases": cases, "memory": memory}
    if options.knn:
        log.info("k-NN")
        found["knn"] = knn = _neighbours(options)
        lines = ["", _HEAD.format("queries", "support") + f" {'product s':>10} {'rest s':>8}"]
        for case in knn["cases"]:
            line = _row(case["clips"], case["clips"], case)
            lines.append(line + f" {case['product']:>10.3f} {case['rest']:>8.3f}")
        growth = ", ".join(f"{name} n^{power:.2f}" for name, power in knn["growth"].items())
        lines.append(f"  with n queries and n clips of the support, processor time: {growth}")
        parts.append(f"k-NN {knn['cases'][-1]['ratio']:.2f}x ({knn['cases'][-1]['clips']} clips)")
        sys.stdout.write("\n".join(lines) + "\n")
    return found | {"summary": f"eval: {', '.join(parts)} against peer"}


_HEAD = f"{{:>7}} {{:>8}} {'peer':<24} {'peer ms':>10} {'mmpt ms':>10} {'ratio':>7} {'in processor time':>18}"


def _row(first: int, second: int, case: dict[str, Any]) -> str:
    theirs, ours = (1e3 * statistics.median(case["seconds"][way]["wall"]) for way in (case["peer"], "mmpt"))
    numbers = f"{theirs:>10.2f} {ours:>10.2f} {case['ratio']:>6.2f}x {case['cpu_ratio']:>17.2f}x"
    return f"{first:>7} {second:>8} {case['peer']:<24} {numbers}"


def _compared(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Any]:
    """Seconds of each way, the faster way that is not mmpt as "peer", and the ratios to it."""
    for work in ways.values():
        work()  # the first call also pays for memory and imports
    calls = max(1, int(0.02 / max(1e-6, clocked(ways["mmpt"]).wall)))
    many = {name: lambda w=work: [w() for _ in range(calls)] for name, work in ways.items()}
    taken = {
        name: {"wall": [t.wall / calls for t in some], "cpu": [t.cpu / calls for t in some]}
        for name, some in alternate(many, repeats).items()
    }
    peer = min((name for name in ways if name != "mmpt"), key=lambda n: statistics.median(taken[n]["wall"]))
    return {
        "peer": peer,
        "seconds": taken,
        "ratio": median_ratio(taken[peer]["wall"], taken["mmpt"]["wall"]),
        "cpu_ratio": median_ratio(taken[peer]["cpu"], taken["mmpt"]["cpu"]),
    }


def _scores(clips: int, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities [prompts, clips] as of a fair model: the own prompt ranks high, but not always first."""
    random = np.random.default_rng(0)
    ids = np.arange(clips) % prompts
    scores = random.standard_normal((prompts, clips), dtype=np.float32)
    clip = np.arange(clips)
    scores[ids, clip] += 2
    while True:  # raise own scores that others equal: the peers do not look for ties
        own = scores[ids, clip]
        tied = np.count_nonzero(scores == own, axis=0) > 1
        best = np.full(prompts, -np.inf, dtype=np.float32)
        np.maximum.at(best, ids, own)
        tied |= (np.count_nonzero(scores == best[:, None], axis=1) > 1)[ids]
        if not tied.any():
            break
        scores[ids[tied], clip[tied]] += np.float32(1e-4) * random.random(int(tied.sum()), dtype=np.float32)
    return scores, ids


def _peer_case(clips: int, prompts: int, repeats: int) -> dict[str, Any]:
    scores, ids = _scores(clips, prompts)
    wanted = rank_metrics(scores, ids)
    for name, metrics in peers.METRICS.items():
        _assert_same(metrics(scores, ids), wanted, name)
    ways: dict[str, Callable[[], object]] = {"mmpt": lambda: rank_metrics(scores, ids)}
    ways |= {name: lambda f=metrics: f(scores, ids) for name, metrics in peers.METRICS.items()}
    return {"clips": clips, "prompts": prompts, "metrics": wanted} | _compared(ways, repeats)


def _assert_same(got: peers.Metrics, wanted: peers.Metrics, name: str) -> None:
    for direction, metrics in wanted.items():
        for metric, value in metrics.items():
            assert abs(got[direction][metric] - value) < 1e-12, (name, direction, metric)


def _metrics_once(way: str, clips: int, prompts: int) -> None:
    scores, ids = _scores(clips, prompts)
    if way != "none":
        {"mmpt": rank_metrics, **peers.METRICS}[way](scores, ids)


def _embedded(clips: int, classes: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries and support [clips, width] in clusters, and the class of each clip."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((classes, width), dtype=np.float32)
    labels = np.arange(clips) % classes
    made = []
    for _ in range(2):
        vectors = 2.5 * random.standard_normal((clips, width), dtype=np.float32)
        vectors += centres[labels]
        made.append(vectors)
    return made[0], made[1], labels


def _neighbours(options: argparse.Namespace) -> dict[str, Any]:
    cases = []
    for clips in options.knn:
        classes = min(options.classes, clips // K)
        queries, support, labels = _embedded(clips, classes, options.width)
        scores = nearest_neighbours(queries, support, labels, classes, K)
        for name, way in peers.NEIGHBOURS.items():
            assert np.array_equal(way(queries, support, labels, K), votes(scores)), name

        def ranked(q: np.ndarray = queries, s: np.ndarray = support, n: np.ndarray = labels) -> Judged:
            return judge([neighbours(Support(s, n, int(n.max()) + 1), K)], q, n)

        assert np.array_equal(ranked().ranks[0], class_ranks(scores, labels))
        assert np.array_equal(ranked().predicted, scores.argmax(axis=1))
        narrow = [unit(vectors).astype(np.float32) for vectors in (queries, support)]

        @threadpool_limits.wrap(limits=1, user_api="blas")
        def product(q: np.ndarray = narrow[0], s: np.ndarray = narrow[1]) -> None:
            for start in range(0, len(q), BLOCK):
                for column in range(0, len(s), BLOCK):
                    q[start : start + BLOCK] @ s[column : column + BLOCK].T

        ways: dict[str, Callable[[], object]] = {"mmpt": ranked, "product": product}
        given = (queries, support, labels)
        ways |= {name: lambda f=way, g=given: f(*g, K) for name, way in peers.NEIGHBOURS.items()}
        case = _compared({n: w for n, w in ways.items() if n != "product"}, options.repeats)
        times = alternate({n: ways[n] for n in ("mmpt", "product")}, options.repeats)
        mmpt, alone = (statistics.median(t.cpu for t in times[name]) for name in ("mmpt", "product"))
        cases.append({"clips": clips, "product": alone, "rest": max(1e-9, mmpt - alone), **case})
    growth = {}
    if len(cases) > 1:
        sizes = [case["clips"] for case in cases]
        growth = {name: exponent(sizes, [case[name] for case in cases]) for name in ("product", "rest")}
        whole = exponent(sizes, [case["product"] + case["rest"] for case in cases])
        growth |= {"k-NN": whole, "k-NN / product": whole - growth["product"]}
    return {"cases": cases, "growth": growth}


def _scaled(name: str, options: argparse.Namespace) -> dict[str, Any]:
    log.info("%s of %d clips x %d classes", name, options.scale, options.classes)
    sizes = (options.scale, options.classes, options.width, options.c)
    return in_own_process(_run_protocol, name, *sizes)[0]


def _run_protocol(name: str, clips: int, classes: int, width: int, c: float) -> dict[str, Any]:
    from benchmarks.common import peak_memory
    from mmpt.evaluators.recognition.outcome import Options, Split
    from mmpt.evaluators.recognition.protocols import run_protocol

    queries, support, labels = _embedded(clips, classes, width)
    names = [f"class {n:05d}" for n in range(classes)]
    if name == "zero_shot":
        prompts = (names, support[:classes].copy(), labels)
        del support
        support = queries[:classes]
    else:
        prompts = None
    test, train = (
        Split(split, vectors, [""] * len(vectors), [names[n] for n in labels[: len(vectors)]], [])
        for split, vectors in (("test", queries), ("train", support))
    )
    before = peak_memory()
    found: list[Any] = []
    taken = clocked(lambda: found.extend(run_protocol(name, test, train, None, prompts, Options(c=c))))
    return {
        "protocol": name,
        "seconds": taken.wall,
        "cpu": taken.cpu,
        "before_bytes": before,
        "peak_bytes": peak_memory(),
        "metrics": [outcome.metrics for outcome in found],
    }


def _against_plain(prompts: list[int], options: argparse.Namespace) -> dict[str, Any]:
    cases = [_plain_case(options.clips, n, options.repeats) for n in (prompts[0], prompts[-1])]
    lines = ["", _HEAD.format("clips", "prompts")]
    lines += [_row(case["clips"], case["prompts"], case) for case in cases]
    growth = _growth(options.clips, options.repeats)
    lines += ["", "mmpt as N grows (N prompts, N clips), processor time:"]
    lines += [f"{n:>7} {t:>9.4f} s" for n, t in zip(growth["clips"], growth["seconds"])]
    lines.append(f"  seconds grow as N^{growth['exponent']:.2f}")
    found: dict[str, Any] = {"cases": cases, "growth": growth}
    if options.large_clips:
        large = _large(options.large_clips, options.large_prompts, options.width)
        found["large"] = large
        lines += ["", _large_line(large)]
    sys.stdout.write("\n".join(lines) + "\n")
    return found | {"summary": f"eval: {cases[-1]['ratio']:.0f}x against plain"}


def _plain_case(clips: int, prompts: int, repeats: int) -> dict[str, Any]:
    """Of the matrix [clips, clips] in which the row of a prompt is repeated for each of its clips."""
    scores, ids = _scores(clips, prompts)
    similarity, texts = scores[ids], [f"Fingerspell the letter {i}." for i in ids]
    wanted = retrieval_metrics(similarity, texts)
    _assert_same(plain_metrics(similarity, texts), wanted, "plain")
    ways: dict[str, Callable[[], object]] = {
        "mmpt": lambda: retrieval_metrics(similarity, texts),
        "plain": lambda: plain_metrics(similarity, texts),
    }
    return {"clips": clips, "prompts": prompts, "metrics": wanted} | _compared(ways, repeats)


def _growth(largest: int, repeats: int) -> dict[str, Any]:
    sizes = [max(2, largest // 4), max(2, largest // 2), largest, 2 * largest]
    times = []
    for n in sizes:
        scores, ids = _scores(n, n)
        samples = [clocked(lambda s=scores, i=ids: rank_metrics(s, i)).cpu for _ in range(repeats)]
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
