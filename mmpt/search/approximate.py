"""Approximate candidates with faiss (Douze et al. 2024, https://arxiv.org/abs/2401.08281).

faiss searches a compressed copy of the vectors without comparing all of them. The scores of its candidates
are recomputed from the full vectors (see Index).
"""

import importlib.util
import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.search.exact import Hits, best
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.logging import log_level

KINDS = {
    "flat": "exact: compares every vector",
    "hnsw": "graph of neighbours (HNSW) over 8-bit copies: fast and accurate, slow to build",
    "ivf": "inverted lists (IVF) of 8-bit copies, memory-mapped",
    "ivfpq": "inverted lists of product codes (IVF-PQ), 1/16 of the vectors' size: for millions",
}
AUTO_FLAT = 50_000
"""Up to this many vectors `auto` is exact."""
WANTED_RECALL = 0.995
EFFORTS = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
K_FACTORS = (2, 4, 8, 12, 16, 20, 30, 40)
_MIN_VECTORS = 64
_TRAINING_PER_LIST = 50
_BLOCK = 1 << 16


def has_faiss() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def faiss_module() -> Any:
    """The module faiss. Raises MissingDataError if it is not installed."""
    if not has_faiss():
        raise MissingDataError(
            "approximate search needs faiss, which is not installed: `pip install faiss-cpu` "
            "(requirements.txt has the version), or build the index with --kind flat, which is exact and "
            "needs NumPy only."
        )
    if "faiss" in sys.modules:  # setting a level is slow
        import faiss
    else:
        with log_level(logging.WARNING, "faiss"):  # it logs its CPU dispatch
            import faiss

    return faiss


def choose_kind(kind: str, count: int) -> str:
    """The kind of index for `count` vectors; "auto" is flat for few, ivfpq for many. Raises UserError."""
    if kind == "auto":
        return "flat" if count <= AUTO_FLAT or not has_faiss() else "ivfpq"
    if kind not in KINDS:
        raise UserError(f"there is no index kind {kind!r}; expected auto, {', '.join(KINDS)}.")
    if kind != "flat" and count < _MIN_VECTORS:
        raise UserError(
            f"{count} vectors are too few for an index of kind {kind}: build it with --kind flat."
        )
    return kind


def lists_for(count: int) -> int:
    """Number of inverted lists: 4 sqrt(count), as faiss advises, with enough vectors to train each."""
    return max(1, min(int(4 * math.sqrt(count)), count // _TRAINING_PER_LIST))


def build(kind: str, vectors: NDArray[np.float32], path: Path, seed: int = 0) -> dict[str, Any]:
    """Write a faiss index of `vectors` [N, D] (array or memory map) to `path` and return its settings."""
    faiss = faiss_module()
    count, width = vectors.shape
    lists = lists_for(count)
    codes = width // 2 if width % 2 == 0 else width
    factory = {"hnsw": "HNSW32,SQ8", "ivf": f"IVF{lists},SQ8", "ivfpq": f"IVF{lists},PQ{codes}x4fs"}[kind]
    index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    sample = np.arange(count)
    if count > (most := max(lists * _TRAINING_PER_LIST, 20_000)):
        sample = np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
    _train(faiss, index, np.ascontiguousarray(vectors[sample], dtype=np.float32))
    for start in range(0, count, _BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + _BLOCK], dtype=np.float32))
    with open(path, "wb") as file:  # faiss's own writer does not report a full disk at the end
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
    return {"factory": factory, "faiss": faiss.__version__}


def _train(faiss: Any, index: Any, sample: NDArray[np.float32]) -> None:
    """Train the lists in several threads, and the codes, which are many tiny problems, in one."""
    lists = faiss.try_extract_index_ivf(index)
    if lists is not None:
        lists.train_q1(len(sample), faiss.swig_ptr(sample), False, index.metric_type)
    with threads_for(1):
        index.train(sample)


@contextmanager
def threads_for(count: int) -> Iterator[None]:
    """At most `count` threads of faiss: for a single query, threads that wait for each other cost more."""
    faiss = faiss_module()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(count, threads))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def load(path: Path, count: int, width: int) -> Any:
    """The faiss index of a file, memory-mapped if its kind allows it.

    Raises UserError if it is damaged or does not hold `count` vectors of dimension `width`.
    """
    faiss = faiss_module()
    flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
    try:
        try:
            index = faiss.read_index(str(path), flags)
        except RuntimeError:  # blocked product codes cannot be mapped
            index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise UserError(f"{path}: faiss cannot read it; build the index again.") from error
    if (index.ntotal, index.d) != (count, width):
        raise UserError(
            f"{path} holds {index.ntotal} vectors of dimension {index.d}, but the index has {count} of "
            f"dimension {width}: build it again."
        )
    return index


def candidates(index: Any, queries: NDArray[np.float32], count: int, effort: int) -> NDArray[np.int64]:
    """Candidate rows [Q, count], best first by the compressed vectors; -1 where there are fewer.

    effort: number of lists (IVF) or graph nodes (HNSW, at least `count`) that are searched.
    """
    if hasattr(index, "hnsw"):
        parameters = _parameters("SearchParametersHNSW", "efSearch", max(effort, count))
    else:
        parameters = _parameters("SearchParametersIVF", "nprobe", effort)
    return index.search(queries, count, params=parameters)[1]


@lru_cache(maxsize=64)  # making one takes as long as normalising a query
def _parameters(kind: str, name: str, value: int) -> Any:
    return getattr(faiss_module(), kind)(**{name: value})


def exact_scores(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Dot products [Q, n] of each query with its rows [Q, n] of `vectors` (contiguous); -inf for row -1."""
    faiss = faiss_module()
    scores = np.empty(rows.shape, dtype=np.float32)
    pointers = [faiss.swig_ptr(array) for array in (scores, queries, vectors, rows)]
    faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *rows.shape)
    if rows.min() < 0:
        scores[rows < 0] = -np.inf
    return scores


def choose_effort(
    index: Any, queries: NDArray[np.float32], vectors: NDArray[np.float32], wanted: Hits
) -> tuple[int, int]:
    """The cheapest effort and k_factor that find WANTED_RECALL of the exact hits.

    wanted: the exact hits of `queries`. If no choice reaches that recall, the one with the highest.
    """
    k = wanted.rows.shape[1]
    found = {}
    for effort in EFFORTS:
        rows = candidates(index, queries, min(len(vectors), max(K_FACTORS) * k), effort)
        scores = exact_scores(queries, vectors, rows)
        for factor in K_FACTORS:
            found[effort, factor] = recall(best(scores[:, : factor * k], rows[:, : factor * k], k), wanted)
    enough = min(WANTED_RECALL, max(found.values()))
    good = [pair for pair, share in found.items() if share >= enough]
    return min(good, key=lambda pair: (pair[0] * pair[1], pair))


def recall(got: Hits, wanted: Hits) -> float:
    """Share of the hits that score at least as the last wanted one, so that ties count as found."""
    least = wanted.scores[:, -1:]
    return float((got.scores >= least - 1e-6 * np.abs(least)).mean())
