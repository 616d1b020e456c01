"""Cache of prepared poses: the clips of a split in a memory-mapped file, rebuilt when sources change."""

import errno
import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.pose.clip import PoseClip
from mmpt.pose.span import Span
from mmpt.pose.store_file import InvalidStoreError, StoreFile, StoreWriter
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import UNREADABLE, atomic_write, file_stamp
from mmpt.utils.lock import wait_for_lock
from mmpt.utils.parallel import end_in_a_script_without_main_guard, ordered_map
from mmpt.utils.progress import Bar

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
Prepare = Callable[..., PoseClip]
"""prepare(path) -> PoseClip, with mirror=True for mirrored clips and span= for parts of files."""

PROGRESS_FROM = 200
_MISSING = (-1, -1)
_CHUNK, _SLOW, _TOGETHER = 1000, 1e-4, 32
"""Files whose stamps are taken in a row; seconds for one that are long; how many such chunks at a time."""
_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class StoreRequest:
    """The clips of a store, and how to build it.

    paths: source file of each clip. prepare_key: settings of `prepare`, as JSON values. prepare: reads one
    clip (see Prepare); raises UserError. cache_dir: folder of the store. mirrored: whether to mirror each
    clip. spans: the part of each file that is the clip (None: all of it). dtype: "float32", or "float16" for
    half the size and 3 digits.

    on_bad: "error" stops at a clip that `prepare` refuses or whose file is missing, "skip" lists it in
    `PoseStore.bad`. workers: processes that prepare clips; 0: this one. check_sources: compare the clips'
    files with the store; false: use a store that exists as it is. None of them changes the key.
    """

    paths: Sequence[PathLike]
    prepare_key: dict[str, Any]
    prepare: Prepare
    cache_dir: PathLike
    mirrored: Sequence[bool] | None = None
    spans: Sequence[Span | None] | None = None
    dtype: str = "float32"
    on_bad: str = "error"
    workers: int = 0
    check_sources: bool = True

    def __post_init__(self) -> None:
        assert self.on_bad in ("error", "skip") and self.dtype in ("float32", "float16")
        assert self.mirrored is None or len(self.mirrored) == len(self.paths)
        assert self.spans is None or len(self.spans) == len(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def sources(self) -> list[str]:
        """Absolute path of each clip's file."""
        return [_absolute(os.fspath(path)) for path in self.paths]

    @cached_property
    def key(self) -> str:
        """Hex digest of everything that determines the content of the store, except the source files."""
        spans = self.spans or ()
        parts = [[None if span is None else str(span) for span in spans]] if any(spans) else []
        description = json.dumps([self.prepare_key, self.dtype, *parts], sort_keys=True)
        digest = hashlib.sha256(description.encode())
        digest.update(b"\0".join(source.encode("utf-8", "surrogateescape") for source in self.sources))
        if self.mirrored is not None and any(self.mirrored):
            digest.update(b"\0mirrored\0" + np.asarray(self.mirrored, dtype=np.uint8).tobytes())
        return digest.hexdigest()

    @property
    def target(self) -> Path:
        """The store's file."""
        return Path(self.cache_dir) / f"{self.key[:32]}.poses"

    def job(self, i: int) -> "_Job":
        """The arguments of `_prepare` for clip `i`."""
        mirror = self.mirrored is not None and bool(self.mirrored[i])
        return self.prepare, self.sources[i], mirror, None if self.spans is None else self.spans[i]


class PoseStore:
    """`store[i]` is the prepared clip of `request.paths[i]`; open it by `build_or_open`.

    The clips' arrays are read-only views of the file. Processes with the same store share its pages, and
    pages are released after reading, which bounds the memory. A damaged clip is prepared again from its
    source.
    """

    def __init__(self, request: StoreRequest, file: StoreFile):
        self.path = request.target
        self._request = request
        self._file = file
        self._checked = np.zeros(len(file), dtype=bool)

    @classmethod
    def build_or_open(cls, request: StoreRequest) -> "PoseStore":
        """Open the requested store; build it if it does not exist, and rebuild what changed.

        Clips whose file has another size, time or inode are prepared again, the others are copied. A
        damaged store is rebuilt. If two processes request the same store, one builds it and the other waits.

        Raises UserError, also if `cache_dir` cannot be written, and MissingDataError for missing files.
        """
        if not request.check_sources and (file := _usable(request)):
            return cls(request, file)
        stamps = _stamps(request.sources)
        if request.on_bad == "error":
            _require(request.sources, stamps)
        try:
            return cls(request, _Builder(request, stamps).open_or_build())
        except OSError as error:
            reason = error.strerror or str(error)
            room = "free some space, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise UserError(
                f"{request.cache_dir}: the pose cache cannot be written there ({reason}); {room}set "
                "SIGNCLIP_CACHE or dataset.cache_dir to a folder that can be written"
            ) from error

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, i: int) -> PoseClip:
        """The clip of `paths[i]`. Raises UserError for one of `bad`, IndexError if there is no such clip."""
        return self.part(i, slice(None))

    def part(self, i: int, frames: slice) -> PoseClip:
        """These frames of `store[i]`; the others are not read (except once, to check the clip)."""
        i = range(len(self))[i]
        if i in self._file.bad:
            raise UserError(self._file.bad[i])
        if not self._checked[i]:
            if not self._file.intact(i):
                job = self._request.job(i)
                log.warning("%s: clip %d is damaged: reading %s instead", self.path, i, job[1])
                return _prepare(*job).frames(frames)
            self._checked[i] = True
        return self._file.clip(i, frames)

    @property
    def bad(self) -> dict[int, str]:
        """Index -> reason of the clips that could not be prepared (empty unless on_bad is "skip")."""
        return self._file.bad

    @property
    def lengths(self) -> np.ndarray:
        """int32 [N]: frames of each clip, 0 for a bad one; known without reading the clips."""
        return self._file.index["frames"]

    @property
    def rates(self) -> np.ndarray:
        """float64 [N]: frames per second of each clip, 0 for a bad one."""
        return self._file.index["fps"]

    @property
    def seen(self) -> np.ndarray:
        """int32 [N]: frames of each clip that show a hand (without hands: any point); 0 for a bad clip."""
        return self._file.index["seen"]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._request,)


class _Builder:
    """Opens the store of a request, or builds it."""

    def __init__(self, request: StoreRequest, stamps: np.ndarray):
        self.request = request
        self.stamps = stamps

    def open_or_build(self) -> StoreFile:
        target = self.request.target
        file = _open(self.request)
        if file is not None and self._up_to_date(file):
            return file
        end_in_a_script_without_main_guard()
        with wait_for_lock(target.with_suffix(".lock")) as locked:
            file = _open(self.request)  # another process may have built it meanwhile
            if file is None or not self._up_to_date(file):
                if locked:  # leftovers of a killed process
                    for leftover in target.parent.glob(f".{target.stem}.*.tmp{target.suffix}"):
                        leftover.unlink(missing_ok=True)
                self._build(file)
                file = _open(self.request)
        assert file is not None, "a store just written must open"
        return file

    def _up_to_date(self, file: StoreFile) -> bool:
        """Whether the sources are unchanged and all unreadable ones are still unreadable."""
        same = len(file) == len(self.stamps) and bool(_same_stamps(file, self.stamps).all())
        if not same or not file.bad:
            return same
        return self.request.on_bad == "skip" and not any(
            UNREADABLE in reason and _can_be_read(self.request.sources[i]) for i, reason in file.bad.items()
        )

    def _build(self, old: StoreFile | None) -> None:
        request = self.request
        reusable = self._reusable(old)
        todo = np.flatnonzero(~reusable)
        log.info("preparing %d of %d poses into %s", len(todo), len(request), request.target)
        prepared = self._prepared(todo.tolist())
        with atomic_write(request.target) as temporary, open(temporary, "wb") as raw:
            writer = StoreWriter(raw, len(request), request.dtype)
            for i in range(len(request)):
                stamp = (int(self.stamps[i, 0]), int(self.stamps[i, 1]))
                if reusable[i]:
                    assert old is not None
                    writer.add(i, old.clip(i), stamp)
                    continue
                result = self._storable(i, next(prepared))
                if isinstance(result, PoseClip):
                    writer.add(i, result, stamp)
                elif request.on_bad == "error":
                    raise UserError(result)
                else:
                    writer.add_bad(i, result, stamp)
            writer.finish(request.key)

    def _storable(self, i: int, result: PoseClip | str) -> PoseClip | str:
        """`result`, or why float16 cannot hold it."""
        if self.request.dtype != "float16" or isinstance(result, str):
            return result
        largest = np.abs(result.data).max()
        if largest <= _HALF:
            return result
        return (
            f"{self.request.sources[i]}: a coordinate of {largest:g} does not fit into float16: set "
            "dataset.store_dtype: float32"
        )

    def _reusable(self, old: StoreFile | None) -> np.ndarray:
        """Intact clips of an older store whose source is unchanged, bool [N]."""
        if old is None:
            return np.zeros(len(self.request), dtype=bool)
        same = _same_stamps(old, self.stamps) & (old.index["frames"] > 0)
        for i in np.flatnonzero(same):
            same[i] = old.intact(i)
        return same

    def _prepared(self, todo: list[int]) -> Iterator[PoseClip | str]:
        """Clips, or the errors of bad ones, in the order of `todo`."""
        jobs = [self.request.job(i) for i in todo]
        workers = self.request.workers
        bar = Bar(
            total=len(jobs), desc="poses", unit="clip", disable=None if len(jobs) > PROGRESS_FROM else True
        )
        with bar:
            several = workers if workers > 1 and len(jobs) > PROGRESS_FROM else 0
            for result in ordered_map(_try, jobs, several, chunk=16):
                bar.update()
                yield result


_Job = tuple[Prepare, str, bool, Span | None]


def _try(job: _Job) -> PoseClip | str:
    try:
        return _prepare(*job)
    except UserError as error:
        return str(error)


def _prepare(prepare: Prepare, source: str, mirror: bool, span: Span | None) -> PoseClip:
    given = {"mirror": True} if mirror else {}
    return prepare(source, **given) if span is None else prepare(source, **given, span=span)


def _reopen(request: StoreRequest) -> PoseStore:
    return PoseStore(request, StoreFile(request.target))


def _open(request: StoreRequest) -> StoreFile | None:
    """The store of a request, if it exists and is undamaged."""
    path = request.target
    try:
        file = StoreFile(path)
        if file.key != request.key:
            raise InvalidStoreError("its key belongs to another store")
        return file
    except FileNotFoundError:
        return None
    except InvalidStoreError as error:
        log.warning("%s cannot be used (%s): rebuilding it", path, error)
        return None


def _usable(request: StoreRequest) -> StoreFile | None:
    """The store of a request, if it can be used without looking at the clips' files."""
    file = _open(request)
    return None if file is not None and file.bad and request.on_bad == "error" else file


def _same_stamps(file: StoreFile, stamps: np.ndarray) -> np.ndarray:
    return (file.index["size"] == stamps[:, 0]) & (file.index["changed"] == stamps[:, 1])


def _stamps(sources: Sequence[str]) -> np.ndarray:
    """int64 [N, 2]: size, and a digest of times and inode, of each file; (-1, -1) if unknown.

    A file of several clips is looked at once. Where that takes long, as on a network file system, many are
    looked at together.
    """
    files = list(dict.fromkeys(sources))
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    started = time.perf_counter()
    found = list(map(_stamps_of, chunks[:1]))
    if time.perf_counter() - started > _CHUNK * _SLOW:
        with ThreadPoolExecutor(_TOGETHER) as pool:
            found += pool.map(_stamps_of, chunks[1:])
    else:
        found += map(_stamps_of, chunks[1:])
    stamps = np.concatenate([np.zeros((0, 2), dtype=np.int64), *found])
    if len(files) < len(sources):
        row = {file: number for number, file in enumerate(files)}
        stamps = stamps[[row[source] for source in sources]]
    return stamps


def _stamps_of(files: Sequence[str]) -> np.ndarray:
    stamps: list[int] = []
    for file in files:
        try:
            size, *changed = file_stamp(os.stat(file))  # noqa: PTH116 (twice as fast as Path.stat)
            stamps += (size, zlib.crc32(repr(changed).encode()))
        except (OSError, ValueError):
            stamps += _MISSING
    return np.array(stamps, dtype=np.int64).reshape(-1, 2)


def _can_be_read(source: str) -> bool:
    """Whether a file can be read now (permissions or a failing disk may have prevented it)."""
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
            f"{missing[0]}: no such file{more}. Check dataset.vfeat_dir, or skip such clips by "
            f"dataset.on_bad_example: skip"
        )


def _absolute(path: str) -> str:
    return path if path.startswith(os.sep) else os.path.abspath(path)  # noqa: PTH100 (resolve follows links)
