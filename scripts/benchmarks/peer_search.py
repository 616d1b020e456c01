"""The index of `signclip search` against torch.topk and faiss, at equal recall."""

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import alternate, clocked, median_ratio, resident_memory
from mmpt.search import Embeddings, build_index
from mmpt.search.approximate import lists_for, recall
from mmpt.search.exact import Hits

NPROBES = (2, 4, 6, 8, 12, 16, 24, 32, 64)
K_FACTORS = (4, 8, 12, 16, 20, 24, 32)


def compare(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], folder: Path, k: int, repeats: int
) -> list[dict[str, Any]]:
    """A row for each way of mmpt, for all queries together and for the first one alone."""
    vectors, queries = _unit(vectors), _unit(queries)
    names = [f"clip{i}" for i in range(len(vectors))]
    index = build_index([Embeddings(vectors, names)], folder / "index", "ivfpq")
    wanted = index.search(queries, k, exact=True)
    ours = index.search(queries, k)
    before = resident_memory()
    refined, settings = _refined(vectors, queries, wanted, recall(ours, wanted), repeats)
    peer_memory = resident_memory() - before
    rows = []
    for some in (queries, queries[:1]):
        flat = _flat_peers(vectors, some, k)
        flat["mmpt"] = lambda some=some: index.search(some, k, exact=True)
        rows.append(_row("flat", len(vectors), len(some), flat, repeats) | {"recall": 1.0})
        ways = {
            "mmpt": lambda some=some: index.search(some, k),
            "faiss refined": lambda some=some: refined.search(some, k, params=_parameters(*settings[:2])),
        }
        rows.append(
            _row("ivfpq", len(vectors), len(some), ways, repeats)
            | {"recall": recall(ours, wanted), "peer_recall": settings[2], "effort": index.effort}
            | {"peer_settings": settings[:2], "peer_bytes": peer_memory}
        )
    return rows


def _flat_peers(vectors: NDArray, queries: NDArray, k: int) -> dict[str, Callable[[], object]]:
    here, asked = torch.from_numpy(vectors), torch.from_numpy(queries)
    return {
        "torch.topk": lambda: torch.topk(asked @ here.T, k),
        "faiss flat": lambda: faiss.knn(queries, vectors, k, faiss.METRIC_INNER_PRODUCT),
    }


def _refined(
    vectors: NDArray, queries: NDArray, wanted: Hits, at_least: float, repeats: int
) -> tuple[Any, tuple[int, int, float]]:
    """faiss's refined index, and the fastest nprobe and k_factor with at least that recall.

    Trained as mmpt trains its own. If nothing reaches the recall, the settings with the highest.
    """
    count, width = vectors.shape
    lists = lists_for(count)
    factory = f"IVF{lists},PQ{width // 2 if width % 2 == 0 else width}x4fs"
    base = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).permutation(count)[: max(50 * lists, 20_000)]
    base.train(vectors[sample])
    base.add(vectors)
    refined = faiss.IndexRefineFlat(base, faiss.swig_ptr(vectors))
    found = []
    k = wanted.rows.shape[1]
    for nprobe, k_factor in itertools.product(NPROBES, K_FACTORS):
        parameters = _parameters(nprobe, k_factor)
        share = recall(Hits(*refined.search(queries, k, params=parameters)), wanted)
        found.append((nprobe, k_factor, share))
    enough = [way for way in found if way[2] >= at_least - 5e-4] or [max(found, key=lambda way: way[2])]
    enough = sorted(enough, key=lambda way: way[0] * way[1])[:6]

    def seconds(way: tuple[int, int, float]) -> float:
        taken = [
            clocked(lambda: refined.search(queries, k, params=_parameters(*way[:2]))) for _ in range(repeats)
        ]
        return statistics.median(t.wall for t in taken)

    return refined, min(enough, key=seconds)


def _parameters(nprobe: int, k_factor: int) -> Any:
    base = faiss.SearchParametersIVF(nprobe=nprobe)
    return faiss.IndexRefineSearchParameters(k_factor=k_factor, base_index_params=base)


def _row(
    way: str, vectors: int, queries: int, ways: dict[str, Callable[[], object]], repeats: int
) -> dict[str, Any]:
    for work in ways.values():
        work()
    calls = max(1, int(0.05 / max(1e-6, clocked(ways["mmpt"]).wall)))
    many = {name: lambda w=work: [w() for _ in range(calls)] for name, work in ways.items()}
    taken = alternate(many, repeats)
    wall = {name: [t.wall / calls / queries for t in some] for name, some in taken.items()}
    peer = min((name for name in ways if name != "mmpt"), key=lambda name: statistics.median(wall[name]))
    return {
        "way": way,
        "vectors": vectors,
        "queries": queries,
        "peer": peer,
        "seconds": {name: statistics.median(some) for name, some in wall.items()},
        "ratio": median_ratio(wall[peer], wall["mmpt"]),
        "cpu_ratio": median_ratio([t.cpu for t in taken[peer]], [t.cpu for t in taken["mmpt"]]),
    }


def peer_table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as text."""
    titles = f"{'recall':>7} {'ms/query':>9} {'ratio':>7} {'in processor time':>18}  peer"
    lines = ["", f"{'vectors':>8} {'queries':>8} {'way':<6} {titles}"]
    for row in rows:
        peer = ", ".join(f"{name} {1e3 * s:.3f} ms" for name, s in row["seconds"].items() if name != "mmpt")
        if row["way"] == "ivfpq":
            nprobe, k_factor = row["peer_settings"]
            peer += f" (recall {row['peer_recall']:.3f}, nprobe {nprobe}, k_factor {k_factor}; mmpt: "
            peer += f"{row['effort'][0]}, {row['effort'][1]}; peer's {row['peer_bytes'] / 2**20:.0f} MiB)"
        lines.append(
            f"{row['vectors']:>8} {row['queries']:>8} {row['way']:<6} {row['recall']:>7.3f} "
            f"{1e3 * row['seconds']['mmpt']:>9.3f} {row['ratio']:>6.2f}x {row['cpu_ratio']:>17.2f}x  {peer}"
        )
    return lines


def _unit(vectors: NDArray) -> NDArray[np.float32]:
    ready = np.array(vectors, dtype=np.float32)
    faiss.normalize_L2(ready)
    return ready
