"""Search: the index of `signclip search`, exact and approximate, against torch, faiss, or a plain loop.

Generated embeddings in clusters, a query near each of some of them. peer, for every size: exact search
against torch.topk on the matrix product and against faiss's flat index; ivfpq against faiss's own index of
product codes with refinement (IndexRefineFlat) of the same size, with the nprobe and k_factor that are
fastest on these very queries at no lower recall than mmpt's (mmpt chooses its own from other queries, when it
builds the index); a batch, and a single query. plain: against one query with one vector at a time; also how
long each kind takes to build and to open, and resident memory of a process that opens it and asks.
"""

import argparse
import logging
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import alternate, clocked, exponent, in_own_process, median_ratio, resident_memory
from benchmarks.peer_search import compare, peer_table
from mmpt.search import Embeddings, Index, build_index

log = logging.getLogger(__name__)

AGAINST = {
    "peer": "torch.topk and faiss flat; faiss IVF-PQ with its own refinement, at equal recall",
    "plain": "a Python loop over all vectors",
}

K = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes."""
    parser.add_argument("--sizes", nargs="+", type=int, help="vectors (default 10000 100000; plain: 3 sizes)")
    parser.add_argument("--width", type=int, default=384, help="numbers in a vector (default 384)")
    parser.add_argument("--queries", type=int, default=100, help="asked together (default 100)")
    parser.add_argument(
        "--kinds",
        nargs="*",
        default=["ivfpq", "hnsw"],
        help="kinds of index of --against plain (default: ivfpq hnsw)",
    )
    parser.add_argument("--loop", type=int, default=1, help="queries of the plain loop (default 1)")
    parser.add_argument("--repeats", type=int, default=5, help="alternating repeats (default 5)")
    parser.add_argument("--folder", help="where to make the indexes (default: a temporary folder)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, return all numbers; "summary" gives the ratios at the largest size."""
    if options.sizes is None:
        options.sizes = [10_000, 100_000] if options.against == "peer" else [10_000, 31_623, 100_000]
    return _against_peer(options) if options.against == "peer" else _against_plain(options)


def _against_peer(options: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="benchmark-search-") as name:
            rows += compare(
                *generate(size, options.width, options.queries, Path(name)), Path(name), K, options.repeats
            )
    sys.stdout.write("\n".join(peer_table(rows)) + "\n")
    last = [row for row in rows if row["vectors"] == options.sizes[-1]]
    recall = next(row["recall"] for row in last if row["way"] == "ivfpq")
    parts = [
        f"{way} {', '.join(_ratio(row) for row in last if row['way'] == way)}"
        + (f" (recall {recall:.3f})" if way == "ivfpq" else "")
        for way in ("flat", "ivfpq")
    ]
    return {
        "rows": rows,
        "summary": f"search: {'; '.join(parts)} at {options.sizes[-1]} vectors against peer",
    }


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['ratio']:.2f}x {'single' if row['queries'] == 1 else 'batch'}"


def _against_plain(options: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="benchmark-search-") as name:
            rows += _measure(size, Path(name), options)
    growth = {}
    for way in dict.fromkeys(row["way"] for row in rows):
        some = [row for row in rows if row["way"] == way]
        if len(some) > 1:
            growth[way] = exponent([row["vectors"] for row in some], [row["seconds"] for row in some])
    sys.stdout.write("\n".join(_table(rows, growth)) + "\n")
    last = [row for row in rows if row["vectors"] == options.sizes[-1] and row["way"] != "loop"]
    parts = [
        f"{row['way']} {row['ratio']:.0f}x"
        + (f" (recall {row['recall']:.3f})" if row["way"] != "flat" else "")
        for row in last
    ]
    return {
        "rows": rows,
        "growth": growth,
        "summary": f"search: {', '.join(parts)} at {options.sizes[-1]} vectors against plain",
    }


def generate(size: int, width: int, queries: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [size, width] in clusters of some hundred, in a mapped file, and queries near some of them."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((max(10, size // 300), width), dtype=np.float32)
    vectors = np.lib.format.open_memmap(folder / "embeddings.npy", "w+", np.float32, shape=(size, width))
    for start in range(0, size, 1 << 16):
        block = vectors[start : start + (1 << 16)]
        block[:] = centres[random.integers(0, len(centres), len(block))]
        block += 0.7 * random.standard_normal(block.shape, dtype=np.float32)
    near = np.sort(random.choice(size, queries, replace=False))
    return vectors, vectors[near] + 0.5 * random.standard_normal((queries, width), dtype=np.float32)


def plain_search(queries: np.ndarray, vectors: np.ndarray, k: int) -> list[list[int]]:
    """The rows of the k most similar vectors of each query, by a loop over all vectors."""
    found = []
    for query in queries:
        length = np.linalg.norm(query)
        scores = [float(query @ vector) / float(length * np.linalg.norm(vector)) for vector in vectors]
        found.append(sorted(range(len(scores)), key=lambda row: -scores[row])[:k])
    return found


def _measure(size: int, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    vectors, queries = generate(size, options.width, options.queries, folder)
    names = [f"clip{i}" for i in range(size)]
    indexes, built = {}, {}
    for kind in ["flat", *options.kinds]:
        log.info("%d vectors: building %s", size, kind)
        taken = clocked(
            lambda k=kind: indexes.update({k: build_index([Embeddings(vectors, names)], folder / k, k)})
        )
        built[kind] = taken.wall
    few = queries[: options.loop]
    wanted = indexes["flat"].search(few, K).rows.tolist()
    assert plain_search(few, vectors, K) == wanted, "the plain loop and exact search must agree"
    ways = {"loop": lambda: plain_search(few, vectors, K)}
    ways |= {kind: lambda index=index: index.search(queries, K) for kind, index in indexes.items()}
    for kind in indexes:
        ways[kind]()  # files are in memory from here on
    log.info("%d vectors: asking", size)
    times = {way: [t.wall for t in some] for way, some in alternate(ways, options.repeats).items()}
    seconds = {way: [t / len(few if way == "loop" else queries) for t in some] for way, some in times.items()}
    rows = [{"way": "loop", "vectors": size, "seconds": statistics.median(seconds["loop"])}]
    for kind, index in indexes.items():
        one, memory = in_own_process(_ask_once, folder / kind, queries[:1])[0]
        rows.append(
            {
                "way": kind,
                "vectors": size,
                "seconds": statistics.median(seconds[kind]),
                "ratio": median_ratio(seconds["loop"], seconds[kind]),
                "recall": 1.0 if kind == "flat" else index.recall(queries, K),
                "built": built[kind],
                "bytes": sum(path.stat().st_size for path in index.folder.iterdir()),
                **one,
                "memory": memory,
            }
        )
    return rows


def _ask_once(folder: Path, query: np.ndarray) -> tuple[dict[str, float], int]:
    """Seconds to open an index and of its first and a later answer, and the memory that this took."""
    before = resident_memory()
    index: list[Index] = []
    opened = clocked(lambda: index.append(Index(folder))).wall
    first = clocked(lambda: index[0].search(query, K)).wall
    later = statistics.median(clocked(lambda: index[0].search(query, K)).wall for _ in range(5))
    return {"opened": opened, "first": first, "later": later}, resident_memory() - before


def _table(rows: Sequence[dict[str, Any]], growth: dict[str, float]) -> list[str]:
    titles = (
        "ms/query",
        "ratio",
        "recall",
        "build s",
        "open ms",
        "first ms",
        "alone ms",
        "disk MiB",
        "memory MiB",
    )
    lines = ["", f"{'vectors':>8} {'way':<6}" + "".join(f" {title:>10}" for title in titles)]
    for row in rows:
        line = f"{row['vectors']:>8} {row['way']:<6} {1e3 * row['seconds']:>10.3f}"
        if row["way"] != "loop":
            line += f" {row['ratio']:>9.0f}x {row['recall']:>10.3f} {row['built']:>10.1f}"
            line += "".join(f" {1e3 * row[key]:>10.1f}" for key in ("opened", "first", "later"))
            line += "".join(f" {row[key] / 2**20:>10.0f}" for key in ("bytes", "memory"))
        lines.append(line)
    grow = ", ".join(f"{way} n^{power:.2f}" for way, power in growth.items())
    return [*lines, *([f"  time of a query grows as: {grow}"] if grow else [])]
