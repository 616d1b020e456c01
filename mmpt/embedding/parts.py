"""Save the portions of an unfinished embedding run, so that it can be resumed.

Portions depend only on the jobs, so a resumed run gives the same bytes as an uninterrupted one.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.embedding.clip_loader import ClipJob, Piece, Windows
from mmpt.embedding.storage import EmbeddingSet
from mmpt.utils.arrays import non_finite, save_npz, why_non_finite
from mmpt.utils.errors import UserError
from mmpt.utils.files import UNREADABLE, file_stamp, read_text, remove_leftovers, write_text
from mmpt.utils.shards import Shard

log = logging.getLogger(__name__)

_FORMAT = 3
_KEY = "key.txt"


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


@dataclass(frozen=True)
class PartsKey:
    """key: of the run (see parts_key). of: what it embeds (see made_of). force: replace parts of others."""

    key: str
    of: dict[str, Any]
    force: bool = False


class Parts:
    """The folder `parts` with one .npz file per portion, or one folder for each shard, to read from.

    portion: clips in a part. shard: of these portions only. prepare() opens the folder to write to.
    """

    def __init__(
        self, folders: Sequence[Path], jobs: Sequence[ClipJob], portion: int, shard: Shard | None = None
    ):
        self.folders = folders
        self.jobs = jobs
        self.portion = portion
        numbered = enumerate(range(0, len(jobs), portion))
        self.starts = [start for number, start in numbered if shard is None or shard.has_number(number)]
        """First job number of each part."""
        self.missing = [start for start in self.starts if not self._file(start).is_file()]
        """Those of the parts that do not exist yet."""

    @property
    def folder(self) -> Path:
        """The folder to write to."""
        [folder] = self.folders
        return folder

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
        save_npz(
            self._file(portion.start),
            vectors=vectors,
            owners=np.array(portion.owners, int),
            spans=spans,
            cut=np.array([piece.cut for piece in pieces], bool),
            blank=np.array([piece.blank for piece in pieces], bool),
            failed=failed,
        )

    def gather(self, windowed: bool) -> EmbeddingSet:
        """All parts as one set of embeddings."""
        vectors, ids, failed, cut = list[NDArray[np.float32]](), list[dict[str, str]](), dict[str, str](), 0
        blank: list[int] = []
        for start in self.starts:
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
        reused = sum(map(self.count, self.starts)) - sum(map(self.count, self.missing))
        joined = np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32)
        return EmbeddingSet(joined, ids, failed, reused, cut, blank)

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder)

    def finish(self, failed: dict[str, str]) -> None:
        """Delete the folder, or, if clips may be read the next time, only the parts that lack them."""
        if not may_pass(failed):
            return self.remove()
        for start in self.starts:
            ids = [job.id for job in self.jobs[start : start + self.count(start)]]
            if may_pass({name: failed[name] for name in ids if name in failed}):
                self._file(start).unlink()
        return None

    def retry(self) -> None:
        """Count the parts with clips that may be read this time as missing."""
        for start in set(self.starts) - set(self.missing):
            with np.load(self._file(start), allow_pickle=False) as part:
                if may_pass(json.loads(part["failed"].tobytes())):
                    self.missing.append(start)
        self.missing.sort()

    def prepare(self, key: PartsKey) -> None:
        """Create the folder; delete parts of a run with another key.

        Raises UserError if the folder holds anything else, or, unless key.force, parts of another model,
        source or other options.
        """
        known = self.folder / _KEY
        if os.path.lexists(self.folder):
            self._check_entries()
            before = read_text(known).split("\n") if known.is_file() else ["", "{}"]
            if before[0] != key.key:
                self._check_same(before[-1], key)
                shutil.rmtree(self.folder)
                self.missing = self.starts
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        if not known.is_file():
            write_text(known, f"{key.key}\n{json.dumps(key.of, sort_keys=True)}")

    def _check_entries(self) -> None:
        """Raises UserError for files that are not of an embedding run."""
        if self.folder.is_symlink() or not self.folder.is_dir():
            raise UserError(f"{self.folder}: a folder was expected, for parts of the run: move it away.")
        names = {path.name for path in self.folder.iterdir()}
        names -= {name for name in names if re.fullmatch(r"\.(\d{9}|key)\.\w+\.tmp\.(npz|txt)", name)}
        foreign = sorted(name for name in names if name != _KEY and not re.fullmatch(r"\d{9}\.npz", name))
        if foreign or (names and _KEY not in names):
            raise UserError(
                f"{self.folder} holds {(foreign or sorted(names))[0]!r}, which is not of an embedding run: "
                "move it away, or give another folder with --out."
            )

    def _check_same(self, before: str, key: PartsKey) -> None:
        """Raises UserError if an unfinished run embedded something else. before: its `of`, as JSON."""
        if before != json.dumps(key.of, sort_keys=True) and not key.force and any(self.folder.glob("*.npz")):
            raise UserError(
                f"{self.folder} holds parts of an unfinished run with another model, source or other options "
                f"({before}): give another folder with --out, or --force to delete them."
            )
        log.info("%s: deleting parts of a run with other clips", self.folder)

    def _file(self, start: int) -> Path:
        folder = self.folders[start // self.portion % len(self.folders)]
        return folder / f"{start:09d}.npz"


def may_pass(failed: dict[str, str]) -> bool:
    """Whether a clip failed by an error of the system, which may not occur again."""
    return any(UNREADABLE in reason for reason in failed.values())


def parts_key(jobs: Sequence[ClipJob], windows: Windows | None, about: dict[str, Any], portion: int) -> str:
    """Hex digest of what determines the result: model, options, and the stamps of the files."""
    digest = hashlib.sha256(json.dumps([_FORMAT, about, portion, str(windows)], sort_keys=True).encode())
    for job in jobs:
        path = Path(job.path)
        stat = path.stat() if path.is_file() else None
        stamp = None if stat is None else file_stamp(stat)
        described = [job.id, job.path, job.listed, repr(job.span), job.mirror, stamp]
        digest.update(json.dumps(described).encode())
    return digest.hexdigest()
