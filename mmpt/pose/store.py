"""Poses parsed once and kept: prepared clips of a dataset in one memory-mapped file."""

import contextlib
import errno
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mmpt.pose.clip import PoseClip
from mmpt.pose.reader import UNREADABLE
from mmpt.pose.span import Span
from mmpt.pose.store_file import InvalidStoreError, StoreFile, StoreWriter, key_of
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import atomic_write
from mmpt.utils.lock import wait_for_lock

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
Prepare = Callable[..., PoseClip]
"""prepare(path) -> PoseClip, called with mirror=True for mirrored clips, with span= for parts of files;
raises UserError."""

PROGRESS_FROM = 200
_MISSING = (-1, -1)
_HALF = float(np.finfo(np.float16).max)


class PoseStore:
    """`store[i]` is the prepared clip of `paths[i]`; make it by `build_or_open`.

    The clips' arrays are read-only views of the file. Processes that open or inherit the same store share its
    pages, and pages are given back as they are read, so memory stays flat. A clip whose bytes are damaged is
    prepared from its source again.
    """

    def __init__(
        self,
        file: StoreFile,
        path: Path,
        sources: Sequence[str],
        prepare: Prepare,
        mirrored: np.ndarray,
        spans: Sequence[Span | None],
    ):
        self.path = path
        self._file = file
        self._sources = sources
        self._prepare = prepare
        self._mirrored = mirrored
        self._spans = spans
        self._checked = np.zeros(len(file), dtype=bool)

    @classmethod
    def build_or_open(
        cls,
        paths: Sequence[PathLike],
        prepare_key: dict[str, Any],
        prepare: Prepare,
        cache_dir: PathLike,
        *,
        mirrored: Sequence[bool] | None = None,
        spans: Sequence[Span | None] | None = None,
        dtype: str = "float32",
        on_bad: str = "error",
        workers: int = 0,
    ) -> "PoseStore":
        """Open the store of these files, or make it, or make anew what changed.

        It is found again by `prepare_key` (JSON), `paths`, `mirrored` (clips to mirror), `spans` (the
        part of the file that is the clip) and `dtype` ("float32", or "float16" for half the size and 3
        digits). A file whose size or time of change differs is prepared again, the others are copied. A
        store that is not whole is made anew. Two processes that
        ask for one store at a time: one makes it, the other waits. on_bad: a file that `prepare` refuses with
        a UserError (or that is not there) stops the building ("error"), or is left out and listed in `bad`
        ("skip"). workers: processes that prepare; 0 = this one.

        Raises UserError, also when `cache_dir` cannot be written, and MissingDataError for files that are not
        there.
        """
        assert on_bad in ("error", "skip") and dtype in ("float32", "float16")
        sources = [_absolute(os.fspath(path)) for path in paths]
        assert mirrored is None or len(mirrored) == len(sources)
        flags = np.zeros(len(sources), dtype=bool) if mirrored is None else np.asarray(mirrored, dtype=bool)
        parts = [None] * len(sources) if spans is None else list(spans)
        assert len(parts) == len(sources)
        told = [[None if part is None else str(part) for part in parts]] if any(parts) else []
        key = key_of([prepare_key, dtype, *told], sources, mirrored)
        target = Path(cache_dir) / f"{key[:32]}.poses"
        stamps = _stamps(sources)
        if on_bad == "error":
            _require(sources, stamps)
        builder = _Builder(sources, flags, parts, stamps, prepare, on_bad, workers)
        try:
            file = builder.open_or_build(target, key, dtype)
        except OSError as error:
            reason = error.strerror or str(error)
            room = "free some space, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise UserError(
                f"{cache_dir}: prepared poses cannot be kept there ({reason}); {room}set dataset.cache_dir "
                f"to a folder that can be written"
            ) from error
        return cls(file, target, sources, prepare, flags, parts)

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, i: int) -> PoseClip:
        """The clip of `paths[i]`. Raises UserError when it is one of `bad`, IndexError when there is no such
        clip.
        """
        i = range(len(self))[i]
        if i in self._file.bad:
            raise UserError(self._file.bad[i])
        if not self._checked[i]:
            if not self._file.intact(i):
                log.warning("%s: clip %d is damaged; read from %s again", self.path, i, self._sources[i])
                return _call(self._prepare, self._sources[i], bool(self._mirrored[i]), self._spans[i])
            self._checked[i] = True
        return self._file.clip(i)

    @property
    def bad(self) -> dict[int, str]:
        """Index -> reason of the clips that could not be prepared (empty unless on_bad is "skip")."""
        return self._file.bad

    @property
    def lengths(self) -> np.ndarray:
        """int32 [N]: frames of each clip, 0 where it is bad; known without reading the clips."""
        return self._file.index["frames"]

    @property
    def seen(self) -> np.ndarray:
        """int32 [N]: frames of each clip in which some point is there; 0 where it is bad."""
        return self._file.index["seen"]

    def __reduce__(self):
        return _reopen, (self.path, self._sources, self._prepare, self._mirrored, self._spans)


class _Builder:
    def __init__(
        self,
        sources: list[str],
        mirrored: np.ndarray,
        spans: Sequence[Span | None],
        stamps: np.ndarray,
        prepare: Prepare,
        on_bad: str,
        workers: int,
    ):
        self.sources = sources
        self.mirrored = mirrored
        self.spans = spans
        self.stamps = stamps
        self.prepare = prepare
        self.on_bad = on_bad
        self.workers = workers

    def open_or_build(self, target: Path, key: str, dtype: str) -> StoreFile:
        file = _open(target, key)
        if file is not None and self._fresh(file):
            return file
        with wait_for_lock(target.with_suffix(".lock")) as alone:
            file = _open(target, key)  # another process may have made it meanwhile
            if file is None or not self._fresh(file):
                self._build(target, key, dtype, file, clean=alone)
                file = _open(target, key)
        assert file is not None, "a store just written must open"
        return file

    def _fresh(self, file: StoreFile) -> bool:
        same = len(file) == len(self.stamps) and bool(_same_stamps(file, self.stamps).all())
        if not same or not file.bad:
            return same
        return self.on_bad == "skip" and not any(
            UNREADABLE in reason and _can_be_read(self.sources[i]) for i, reason in file.bad.items()
        )

    def _build(self, target: Path, key: str, dtype: str, old: StoreFile | None, clean: bool) -> None:
        if clean:  # what a killed process left behind; with the lock in hand, nobody is writing there
            for leftover in target.parent.glob(f".{target.stem}.*.tmp{target.suffix}"):
                leftover.unlink(missing_ok=True)
        reusable = self._reusable(old)
        todo = np.flatnonzero(~reusable)
        log.info("preparing %d of %d poses into %s", len(todo), len(self.sources), target)
        fresh = self._prepared(todo.tolist())
        with atomic_write(target) as temporary, open(temporary, "wb") as raw:
            writer = StoreWriter(raw, len(self.sources), dtype)
            for i in range(len(self.sources)):
                stamp = (int(self.stamps[i, 0]), int(self.stamps[i, 1]))
                if reusable[i]:
                    assert old is not None
                    writer.add(i, old.clip(i), stamp)
                    continue
                result = next(fresh)
                if isinstance(result, PoseClip) and dtype == "float16" and np.abs(result.data).max() > _HALF:
                    result = (
                        f"{self.sources[i]}: a coordinate of {np.abs(result.data).max():g} does not fit into "
                        "float16: set dataset.store_dtype: float32"
                    )
                if isinstance(result, PoseClip):
                    writer.add(i, result, stamp)
                elif self.on_bad == "error":
                    raise UserError(result)
                else:
                    writer.add_bad(i, result, stamp)
            writer.finish(key)

    def _reusable(self, old: StoreFile | None) -> np.ndarray:
        if old is None:
            return np.zeros(len(self.sources), dtype=bool)
        same = _same_stamps(old, self.stamps) & (old.index["frames"] > 0)
        for i in np.flatnonzero(same):
            same[i] = old.intact(i)
        return same

    def _prepared(self, todo: list[int]) -> Iterator[PoseClip | str]:
        """Clips, or the reasons why there are none, in the order of `todo`."""
        jobs = [(self.prepare, self.sources[i], bool(self.mirrored[i]), self.spans[i]) for i in todo]
        bar = tqdm(
            total=len(jobs), desc="poses", unit="clip", disable=None if len(jobs) > PROGRESS_FROM else True
        )
        with bar, contextlib.ExitStack() as stack:
            results: Iterator[PoseClip | str] = map(_try, jobs)
            if self.workers > 1 and len(jobs) > PROGRESS_FROM:
                # spawn: forking a process in which torch runs threads can hang
                context = multiprocessing.get_context("spawn")
                pool = stack.enter_context(ProcessPoolExecutor(self.workers, mp_context=context))
                results = _in_pool(pool, jobs, 4 * self.workers)
            for result in results:
                bar.update()
                yield result


_Job = tuple[Prepare, str, bool, Span | None]


def _try(job: _Job) -> PoseClip | str:
    try:
        return _call(*job)
    except UserError as error:
        return str(error)


def _try_all(jobs: list[_Job]) -> list[PoseClip | str]:
    return [_try(job) for job in jobs]


def _in_pool(pool: ProcessPoolExecutor, jobs: list[_Job], ahead: int) -> Iterator[PoseClip | str]:
    """Results in order, a bounded number of chunks ahead of the writer, so that memory stays flat."""
    chunks = [jobs[start : start + 16] for start in range(0, len(jobs), 16)]
    pending = [pool.submit(_try_all, chunk) for chunk in chunks[:ahead]]
    for position in range(len(chunks)):
        if position + ahead < len(chunks):
            pending.append(pool.submit(_try_all, chunks[position + ahead]))
        yield from pending.pop(0).result()


def _call(prepare: Prepare, source: str, mirror: bool, span: Span | None) -> PoseClip:
    given = {"mirror": True} if mirror else {}
    return prepare(source, **given) if span is None else prepare(source, **given, span=span)


def _reopen(
    path: Path, sources: list[str], prepare: Prepare, mirrored: np.ndarray, spans: Sequence[Span | None]
) -> PoseStore:
    return PoseStore(StoreFile(path), path, sources, prepare, mirrored, spans)


def _open(path: Path, key: str) -> StoreFile | None:
    """The store at `path` if there is a whole one of this key."""
    try:
        file = StoreFile(path)
        if file.key != key:
            raise InvalidStoreError("it was made for something else")
        return file
    except FileNotFoundError:
        return None
    except InvalidStoreError as error:
        log.warning("%s cannot be used: %s; it is made anew", path, error)
        return None


def _same_stamps(file: StoreFile, stamps: np.ndarray) -> np.ndarray:
    return (file.index["size"] == stamps[:, 0]) & (file.index["mtime_ns"] == stamps[:, 1])


def _stamps(sources: Sequence[str]) -> np.ndarray:
    """int64 [N, 2]: size and time of change of each file, (-1, -1) where it cannot be asked."""
    stamps: list[int] = []
    for source in sources:
        try:
            status = os.stat(source)  # noqa: PTH116 (100,000 times: half the cost of Path.stat)
            stamps += (status.st_size, status.st_mtime_ns)
        except (OSError, ValueError):
            stamps += _MISSING
    return np.array(stamps, dtype=np.int64).reshape(-1, 2)


def _can_be_read(source: str) -> bool:
    """Whether a file, which its rights or a failing disk hid before, opens now."""
    try:
        with open(source, "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _require(sources: Sequence[str], stamps: np.ndarray) -> None:
    missing = [source for source in sources if not os.path.lexists(source)] if (stamps < 0).any() else []
    if missing:
        more = f" (and {len(missing) - 1} more of {len(sources)})" if len(missing) > 1 else ""
        raise MissingDataError(
            f"{missing[0]}: no such file{more}. Check dataset.vfeat_dir, or leave such clips out by "
            f"dataset.on_bad_example: skip"
        )


def _absolute(path: str) -> str:
    return path if path.startswith(os.sep) else os.path.abspath(path)  # noqa: PTH100 (resolve follows links)
