"""Save the portions of an unfinished embedding run, so that it can be resumed.

Portions depend only on the jobs, so a resumed run gives the same bytes as an uninterrupted one.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.embedding.clip_loader import ClipJob, Piece, Windows
from mmpt.embedding.storage import EmbeddingSet
from mmpt.utils.arrays import non_finite, why_non_finite
from mmpt.utils.files import atomic_write, remove_leftovers

log = logging.getLogger(__name__)

_FORMAT = 3


@dataclass
class Portion:
    """The clips of one part: pieces, the job number of each piece, and id -> error of unreadable clips."""

    start: int
    count: int
    pieces: list[Piece] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, number: int, job: ClipJob, result: list[Piece] | str) -> None:
        """Add the result of job `number`: its pieces, or an error."""
        if isinstance(result, str):
            self.failed[job.id] = result
        else:
            self.pieces += result
            self.owners += [number] * len(result)

    def fail_non_finite(self, jobs: Sequence[ClipJob], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move the clips with a NaN or infinite vector to `failed`; returns the vectors of the others."""
        bad: set[int] = set()
        for row in non_finite(vectors):
            job = jobs[self.owners[row]]
            bad.add(self.owners[row])
            self.failed.setdefault(job.id, why_non_finite(job.path, self.pieces[row].frames))
        kept = [row for row, owner in enumerate(self.owners) if owner not in bad]
        self.pieces = [self.pieces[row] for row in kept]
        self.owners = [self.owners[row] for row in kept]
        return vectors[kept]


class Parts:
    """The folder `parts` with one .npz file per portion.

    Parts of a run with another key are deleted. portion: clips in a part.
    """

    def __init__(self, folder: Path, key: str, jobs: Sequence[ClipJob], portion: int):
        self.folder = folder
        self.jobs = jobs
        self.portion = portion
        self._prepare(key)
        starts = range(0, len(jobs), portion)
        self.missing = [start for start in starts if not self._file(start).is_file()]
        """First job number of each part that does not exist yet."""

    def count(self, start: int) -> int:
        """Number of clips in the part that starts with job `start`."""
        return min(self.portion, len(self.jobs) - start)

    def todo(self) -> Iterator[Portion]:
        """The missing portions, empty."""
        return (Portion(start, self.count(start)) for start in self.missing)

    def save(self, portion: Portion, vectors: np.ndarray) -> None:
        """Write a part: the portion and the vectors of its pieces."""
        pieces = portion.pieces
        spans = np.array([[p.start_ms, p.end_ms] for p in pieces], dtype=np.float64).reshape(-1, 2)
        failed = np.frombuffer(json.dumps(portion.failed).encode(), dtype=np.uint8)
        with atomic_write(self._file(portion.start)) as temporary:
            np.savez(
                temporary,
                vectors=vectors,
                owners=np.array(portion.owners, int),
                spans=spans,
                cut=np.array([piece.cut for piece in pieces], bool),
                blank=np.array([piece.blank for piece in pieces], bool),
                failed=failed,
            )

    def gather(self, windowed: bool) -> EmbeddingSet:
        """All parts as one set of embeddings."""
        vectors, ids, failed, cut = [], list[dict[str, str]](), dict[str, str](), 0
        blank: list[int] = []
        for start in range(0, len(self.jobs), self.portion):
            with np.load(self._file(start), allow_pickle=False) as part:
                vectors.append(part["vectors"])
                failed |= json.loads(part["failed"].tobytes())
                cut += int(part["cut"].sum())
                blank += (len(ids) + np.flatnonzero(part["blank"])).tolist()
                for owner, (begin, end) in zip(part["owners"], part["spans"]):
                    job = self.jobs[owner]
                    row = {"id": job.id, "path": job.listed}
                    ids.append(
                        row | ({"start_ms": f"{begin:.1f}", "end_ms": f"{end:.1f}"} if windowed else {})
                    )
        reused = len(self.jobs) - sum(map(self.count, self.missing))
        return EmbeddingSet(np.concatenate(vectors), ids, failed, reused, cut, blank)

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder)

    def _prepare(self, key: str) -> None:
        known = self.folder / "key.txt"
        if self.folder.is_dir() and (not known.is_file() or known.read_text() != key):
            log.info("%s: deleting parts of a run with other clips, model or options", self.folder)
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        if not known.is_file():
            with atomic_write(known) as temporary:
                temporary.write_text(key)

    def _file(self, start: int) -> Path:
        return self.folder / f"{start:09d}.npz"


def parts_key(jobs: Sequence[ClipJob], windows: Windows | None, about: dict[str, Any], portion: int) -> str:
    """Hex digest of what determines the result: model, options, and size and time stamp of the files."""
    digest = hashlib.sha256(json.dumps([_FORMAT, about, portion, str(windows)], sort_keys=True).encode())
    for job in jobs:
        path = Path(job.path)
        stat = path.stat() if path.is_file() else None
        stamp = None if stat is None else [stat.st_size, stat.st_mtime_ns]
        described = [job.id, job.path, job.listed, repr(job.span), job.mirror, stamp]
        digest.update(json.dumps(described).encode())
    return digest.hexdigest()
