"""The search index: a folder with vectors, their names, a description and, if approximate, a faiss file.

    index.json, vectors.npy (float32 [N, D]), names.bin and offsets.npy (UTF-8), approximate.faiss

index.json has the hashes of the others, which are memory-mapped. Opening an index compares the hashes of
files up to 1 GiB. An exact query reads all vectors, an approximate one a few hundred.
"""

import functools
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt import __version__
from mmpt.search import approximate
from mmpt.search.exact import Hits, best, largest_norm, top_k
from mmpt.search.sources import Embeddings, open_array, same_model
from mmpt.utils.arrays import all_finite, unit_rows
from mmpt.utils.arrays import open_array as open_numbers
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import read_json, write_json
from mmpt.utils.logging import some_of
from mmpt.utils.output_kinds import INDEX
from mmpt.utils.outputs import check_files, check_output, replace_output

log = logging.getLogger(__name__)

FORMAT = INDEX.format
FORMAT_VERSION = 1
MEASURES = ("cosine", "dot")
DESCRIPTION, (VECTORS, NAMES, OFFSETS, FAISS) = INDEX.record, INDEX.names
COMPARED_BYTES = 1 << 30
"""Opening an index compares the hashes of smaller files; of larger ones, only the size is compared."""
BLANK = "of clips without the hand or landmarks that the model reads"
_BLOCK = 1 << 16
_LONGEST = np.sqrt(np.finfo(np.float32).max)
_RECALL_QUERIES, _RECALL_AT = 100, 10
_LEAST_CANDIDATES = 100
#: kind -> effort and k_factor of indexes that do not record theirs
_EFFORT = {"hnsw": (128, 4), "ivf": (32, 4), "ivfpq": (32, 20)}


def build_index(
    sources: Sequence[Embeddings],
    out: str | os.PathLike[str],
    kind: str = "auto",
    measure: str | None = None,
    force: bool = False,
) -> "Index":
    """Build an index folder of all vectors of `sources`, atomically, and open it.

    kind: one of KINDS, or "auto" (flat for few, ivfpq for many). measure: cosine or dot; None uses the
    similarity that the sources were evaluated with, else cosine. The `effort` and `k_factor` of an
    approximate index are chosen by its recall; both are saved, with its recall@10 for 100 of its own vectors.
    Memory does not grow with the sources, apart from faiss's compressed copy. force: see replace_output.
    Raises UserError if there are no vectors, if dimensions or models differ, for NaN, and if `out` holds
    other things or an index of another model.
    """
    model = _check_sources(sources)
    check_output(out, INDEX, {"model": model}, force)
    if measure is None:
        measure = next((s.similarity for s in sources if s.similarity in MEASURES), "cosine")
    if measure not in MEASURES:
        raise UserError(f"there is no measure {measure!r}; expected {' or '.join(MEASURES)}.")
    count, width = sum(len(s.vectors) for s in sources), sources[0].vectors.shape[1]
    kind = approximate.choose_kind(kind, count)
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "mmpt_version": __version__,
        "kind": kind,
        "measure": measure,
        "count": count,
        "dim": width,
        "model": model,
        "blank": _blank_rows(sources),
    }
    with replace_output(out, INDEX, {"model": model}, force) as fresh:
        _write_vectors(fresh / VECTORS, sources, measure, (count, width))
        _write_names([name for source in sources for name in source.names], fresh)
        if kind != "flat":
            log.info("building %s over %d vectors", kind, count)
            vectors = np.load(fresh / VECTORS, mmap_mode="r")
            description["approximate"] = approximate.build(kind, vectors, fresh / FAISS)
        write_json(fresh / DESCRIPTION, description)
        if kind != "flat":
            index = Index(fresh)
            index.effort = index.choose_effort()
            description |= dict(zip(("effort", "k_factor"), index.effort)) | {"recall": index.recall()}
            write_json(fresh / DESCRIPTION, description)
    index = Index(out)
    if index.blank:
        log.warning("%s", index.blank_warning(sorted(index.blank), len(index), "vectors"))
    return index


class Index:
    """An open index folder. Raises MissingDataError if it does not exist, UserError if it is damaged."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.description = _description(self.folder)
        self.kind: str = self.description["kind"]
        self.measure: str = self.description["measure"]
        self.model: str | None = self.description["model"]
        self.blank: frozenset[int] = frozenset(self.description["blank"])
        self._check_files()
        self.vectors = open_array(self.folder / VECTORS)
        self._rows = np.asarray(self.vectors)  # the same memory; indexing a np.memmap is slow
        self._offsets = open_numbers(self.folder / OFFSETS, "expected the offsets of an index's names")
        self._names = _bytes(self.folder / NAMES)
        shape = (self.description["count"], self.description["dim"])
        whole = self.vectors.shape == shape and self._offsets.shape == (shape[0] + 1,)
        whole = whole and self._rows.dtype == np.float32 and self._rows.flags.c_contiguous
        if not whole or not _are_offsets(self._offsets, len(self._names)):
            raise UserError(f"{self.folder}: the index is damaged (its files do not match): build it again.")
        self.effort: tuple[int, int] = _EFFORT.get(self.kind, (1, 1))
        if self.description["effort"] and self.description["k_factor"]:
            self.effort = self.description["effort"], self.description["k_factor"]

    @property
    def summary(self) -> str:
        """One line: size, dimension, kind, measured recall, similarity measure."""
        recall = self.description.get("recall")
        found = "" if recall is None else f", finds {recall:.1%} of the 10 nearest"
        if self.kind != "flat":
            found += f" (effort {self.effort[0]}, k-factor {self.effort[1]})"
        blank = f" ({len(self.blank)} {BLANK})" if self.blank else ""
        return f"{len(self)} vectors of dimension {self.dim}{blank}, {self.kind}{found}, {self.measure}"

    def blank_warning(self, rows: Sequence[int], total: int, what: str) -> str:
        """The warning about `rows`, which are in `blank`. what: what `total` counts."""
        return (
            f"{len(rows)} of {total} {what} are {BLANK}, and do not depend on the signs: "
            f"{some_of([self.name(row) for row in rows])}"
        )

    def _check_files(self) -> None:
        """Raises UserError for links that lead out of the folder, changed files, and vectors of NaN."""
        small = []
        for name in (VECTORS, NAMES, OFFSETS, *((FAISS,) if self.kind != "flat" else ())):
            path = self.folder / name
            if not path.resolve().is_relative_to(self.folder.resolve()) or not path.is_file():
                raise UserError(f"{path}: a file in the folder of the index was expected: build it again.")
            if path.stat().st_size <= COMPARED_BYTES:
                small.append(name)
        check_files(self.folder, INDEX, small)
        if VECTORS in small:
            vectors = open_array(self.folder / VECTORS)
            for start in range(0, len(vectors), _BLOCK):
                if not np.isfinite(vectors[start : start + _BLOCK]).all():
                    raise UserError(f"{self.folder / VECTORS} holds NaN or infinite values: build it again.")

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self.vectors.shape[1]

    def name(self, row: int) -> str:
        """The name of a row."""
        start, end = self._offsets[row : row + 2]
        return bytes(self._names[start:end]).decode(errors="replace")

    def row(self, name: str) -> int:
        """The row of a name. Raises UserError if no entry, or several, have it."""
        wanted = name.encode(errors="surrogatepass")
        fitting = np.flatnonzero(np.diff(self._offsets) == len(wanted))
        rows = [int(row) for row in fitting if self.name(row) == name]
        if len(rows) != 1:
            found = f"{len(rows)} entries" if rows else "no entry"
            raise UserError(
                f"the index {self.folder} has {found} named {name!r}: "
                "expected the id of one entry, as the hits of a query show it."
            )
        return rows[0]

    def check_model(self, fingerprint: str | None, what: str) -> None:
        """Raises UserError if `what` (named in the error) comes from another model than the index."""
        if self.model and fingerprint and not same_model(self.model, fingerprint):
            raise UserError(
                f"{what} comes from another model ({fingerprint}) than the index {self.folder} "
                f"({self.model}): their vectors cannot be compared. Build an "
                "index of this model's embeddings."
            )
        if not (self.model and fingerprint):
            log.warning("%s: its model or that of the index is not recorded, so they are not compared", what)

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        exact: bool = False,
        effort: int | None = None,
        k_factor: int | None = None,
    ) -> Hits:
        """The k most similar vectors of each of `queries` [Q, D], with exact scores (cosine or dot).

        exact: compare all vectors. effort: lists (IVF) or graph nodes (HNSW) that approximate search visits.
        k_factor: candidates for each hit, whose scores are then computed from the full vectors. More of
        either gives higher recall; the defaults are the index's own. Raises UserError for queries of another
        dimension, or not finite.
        """
        try:
            given = np.asarray(queries)
        except ValueError:  # rows of different lengths
            given = np.empty(0, dtype=object)
        if given.ndim != 2 or not len(given) or given.dtype.kind not in "fiu" or given.shape[1] != self.dim:
            raise UserError(
                f"queries have dtype {given.dtype} and shape {list(given.shape)}; expected numbers "
                f"[N, {self.dim}], as the vectors of the index {self.folder}."
            )
        given_numbers = [number for number in (k, effort, k_factor) if number is not None]
        if not all(isinstance(number, int | np.integer) and number >= 1 for number in given_numbers):
            raise UserError("k, effort and k_factor must be whole numbers of at least 1.")
        unit = _prepared(given, self.measure)
        k = min(k, len(self))
        if exact or self.kind == "flat":
            return top_k(unit, self._rows, k, self._longest)
        count = min(len(self), max(k * (k_factor or self.effort[1]), _LEAST_CANDIDATES))
        visits = min(len(self), effort or self.effort[0])  # there are not more nodes or lists
        with approximate.threads_for(len(unit)):
            rows = approximate.candidates(self._faiss, unit, count, visits)
            if rows.max() >= len(self) or rows.min() < -1:
                raise UserError(
                    f"{self.folder / FAISS} names vectors that do not exist: build the index again."
                )
            scores = approximate.exact_scores(unit, self._rows, rows)
        return best(scores, rows, k)

    @functools.cached_property
    def _faiss(self) -> Any:
        """The faiss index, which is read when it is first needed."""
        return approximate.load(self.folder / FAISS, len(self), self.dim)

    def recall(
        self, queries: ArrayLike | None = None, k: int = _RECALL_AT, effort: int | None = None
    ) -> float:
        """Recall@k of approximate against exact search, for `queries` [Q, D] or 100 of its own vectors."""
        if queries is None:
            queries = self._some_vectors()
        return approximate.recall(self.search(queries, k, effort=effort), self.search(queries, k, exact=True))

    def choose_effort(self) -> tuple[int, int]:
        """An effort and k_factor with high recall@10, measured with queries near 100 of the vectors."""
        near = self._some_vectors()
        noise = np.random.default_rng(0).standard_normal(near.shape, dtype=np.float32)
        near += noise * np.linalg.norm(near, axis=1, keepdims=True) / np.sqrt(self.dim)
        queries = _prepared(near, self.measure)
        wanted = top_k(queries, self._rows, min(_RECALL_AT, len(self)), self._longest)
        return approximate.choose_effort(self._faiss, queries, self._rows, wanted)

    @cached_property
    def _longest(self) -> float:
        return 1.0 if self.measure == "cosine" else largest_norm(self._rows)

    def _some_vectors(self) -> NDArray[np.float32]:
        rows = np.linspace(0, len(self) - 1, min(_RECALL_QUERIES, len(self))).astype(int)
        return self._rows[rows]


def _check_sources(sources: Sequence[Embeddings]) -> str | None:
    """The model of the sources, if it is known. Raises UserError if they do not fit together."""
    if not sources:
        raise UserError("no embeddings were given to build an index.")
    widths = sorted({source.vectors.shape[1] for source in sources})
    if len(widths) > 1:
        raise UserError(
            f"the sources have vectors of dimension {' and '.join(map(str, widths))}: they come from "
            "different models."
        )
    for source in sources:
        for number, name in enumerate(source.names):
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise UserError(
                    f"the name {name!r} of vector {number} is not valid Unicode: read it as UTF-8."
                ) from error
    models = sorted({source.model for source in sources if source.model}, key=lambda name: (-len(name), name))
    unknown = sum(source.model is None for source in sources)
    if unknown and len(sources) > 1:
        log.warning("%d of %d sources do not name their model, which is not compared", unknown, len(sources))
    if not all(same_model(one, other) for one, other in itertools.combinations(models, 2)):
        raise UserError(
            f"the sources come from different models ({', '.join(models)}): build an index for each."
        )
    return models[0] if models else None


def _blank_rows(sources: Sequence[Embeddings]) -> list[int]:
    """Rows of the index whose clips show nothing that the model reads."""
    starts = itertools.accumulate((len(source.vectors) for source in sources), initial=0)
    return [start + row for start, source in zip(starts, sources) for row in source.blank]


def _write_vectors(path: Path, sources: Sequence[Embeddings], measure: str, shape: tuple[int, int]) -> None:
    """Write a .npy file block by block (a map of a new file would end in SIGBUS on a full disk)."""
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in _blocks(sources):
            file.write(_prepared(block, measure).astype("<f4", copy=False).data)


def _blocks(sources: Sequence[Embeddings]) -> Iterator[NDArray]:
    for source in sources:
        for start in range(0, len(source.vectors), _BLOCK):
            yield source.vectors[start : start + _BLOCK]


def _prepared(vectors: NDArray, measure: str) -> NDArray[np.float32]:
    """float32, of unit length for cosine (zero stays zero).

    Raises UserError for NaN and infinities, and for vectors whose dot products may be infinite.
    """
    with np.errstate(over="ignore"):
        ready = np.array(vectors, dtype=np.float32, order="C")
        finite = all_finite(ready)
        long = finite and measure == "dot" and not (np.linalg.norm(ready, axis=1) <= _LONGEST).all()
    if not finite:
        raise UserError("the embeddings contain NaN or infinite values: check the model and its input.")
    if long:
        raise UserError(
            f"the embeddings contain vectors longer than {_LONGEST:.1e}, whose dot products exceed "
            "float32: build the index with --measure cosine."
        )
    return unit_rows(ready) if measure == "cosine" else ready


def _write_names(names: Sequence[str], folder: Path) -> None:
    encoded = [name.encode() for name in names]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(name) for name in encoded], out=offsets[1:])
    np.save(folder / OFFSETS, offsets)
    (folder / NAMES).write_bytes(b"".join(encoded))


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        tree = read_json(path)
    except OSError as error:
        raise MissingDataError(
            f"there is no index {folder} (it has no {DESCRIPTION}): build one with `signclip "
            "search build EVALUATION --out INDEX`."
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}): build the index again.") from error
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise UserError(f"{path} does not describe an index.")
    if not isinstance(tree.get("format_version"), int) or tree["format_version"] > FORMAT_VERSION:
        raise UserError(f"{path} has a newer format than this mmpt ({__version__}) reads: update it.")
    tree = {"model": None, "recall": None, "effort": None, "k_factor": None, "blank": [], **tree}
    known = tree.get("kind") in list(approximate.KINDS) and tree.get("measure") in MEASURES
    wanted = {"count": int, "dim": int, "model": str | None, "recall": float | None}
    for key in ("effort", "k_factor"):
        known = known and (tree[key] is None or (type(tree[key]) is int and tree[key] >= 1))
    known = known and isinstance(tree["blank"], list) and all(type(row) is int for row in tree["blank"])
    if not known or not all(isinstance(tree.get(key), kind) for key, kind in wanted.items()):
        raise UserError(
            f"{path}: {', '.join(wanted)}, effort, k_factor, blank, kind or measure is missing or unknown: "
            "build the index again."
        )
    rows, recall = tree["blank"], tree["recall"]
    if not all(0 <= row < tree["count"] for row in rows) or not (recall is None or 0 <= recall <= 1):
        raise UserError(f"{path}: blank or recall is out of range: build the index again.")
    return tree


def _are_offsets(offsets: NDArray, end: int) -> bool:
    """Whether `offsets` divide `end` bytes into names."""
    if offsets.dtype.kind not in "iu" or offsets[0] != 0 or offsets[-1] != end:
        return False
    return bool((offsets[1:] >= offsets[:-1]).all())


def _bytes(path: Path) -> NDArray[np.uint8]:
    try:
        return np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}): build the index again.") from error
