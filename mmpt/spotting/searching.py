"""Search recordings, each once: the peaks are kept, so that an interrupted run can be resumed."""

import functools
import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.embedding.embedder import SignCLIP
from mmpt.spotting.finding import Found, SpotOptions, find_peaks
from mmpt.spotting.metrics import Criterion, Segments, chance_texts
from mmpt.spotting.peaks import Peaks
from mmpt.spotting.scores import Targets, Unread
from mmpt.spotting.thresholds import Thresholds
from mmpt.spotting.windows import Recording, UnreadableError
from mmpt.utils.arrays import save_npz
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import check_name, file_stamp, remove_leftovers
from mmpt.utils.outputs import differing
from mmpt.utils.progress import Progress
from mmpt.utils.shards import ShardFolder, Sharding

log = logging.getLogger(__name__)

FOLDER = "peaks"
_FORMAT = 1


@dataclass(frozen=True)
class RunOptions:
    """How a run searches and what it writes.

    thresholds: the least score of each text. choose: "global" or "per-text", to choose thresholds on these
    recordings instead, by `criterion`. tier_per_text: one ELAN tier for each text. force: replace the output
    of a run with other settings. resamples: of the intervals. sharding: which recordings, in turn; or merge
    the shards.
    """

    search: SpotOptions = field(default_factory=SpotOptions)
    thresholds: Thresholds = field(default_factory=lambda: Thresholds(0.5))
    choose: str | None = None
    criterion: Criterion = field(default_factory=lambda: Criterion("iou", 0.3))
    tier_per_text: bool = False
    force: bool = False
    show_progress: bool = True
    resamples: int = 1000
    sharding: Sharding = field(default_factory=Sharding)


@dataclass(frozen=True)
class Unopened:
    """A recording that cannot be opened, and why."""

    path: Path
    reason: str


def open_recordings(
    model: SignCLIP, paths: Sequence[Path], options: SpotOptions
) -> list[Recording | Unopened]:
    """The recordings.

    Raises UserError if none can be read, if one is missing, cannot be named or is no kind of file that the
    model reads, or if two would have the same output.
    """
    if not paths:
        raise UserError("there is no recording to search.")
    by_name: dict[str, Path] = {}
    for path in paths:
        check_name(path)
        if (other := by_name.setdefault(path.stem, path)) is not path:
            raise UserError(f"{other} and {path} would both write {path.stem}.csv: rename one of them.")
    opened: list[Recording | Unopened] = []
    for path in paths:
        try:
            opened.append(options.recording(model, path))
        except UnreadableError as error:
            if not path.exists():
                raise MissingDataError(f"there is no recording {path}.") from None
            opened.append(Unopened(path, str(error)))
    _refuse_if_all([one.reason for one in opened if isinstance(one, Unopened)], len(paths))
    return opened


def _refuse_if_all(failed: Sequence[str], count: int) -> None:
    """Raises UserError if all of `count` recordings failed."""
    if len(failed) == count:
        of_many = "" if count == 1 else f"none of the {count} recordings can be read; the first: "
        raise UserError(of_many + failed[0])


@dataclass(frozen=True)
class SavedPeaks:
    """The peaks of recordings, of this run or of an earlier one: a file for each recording in `folder`.

    shard: keeps what it searches in a folder of its own.
    """

    folder: Path
    model: SignCLIP
    targets: Targets
    options: RunOptions
    references: Sequence[Segments] | None
    shard: ShardFolder | None = None

    @functools.cached_property
    def floor(self) -> NDArray[np.float32]:
        """The least score of the peaks that are kept: of a text that metrics need, all peaks.

        With one text at a time, the texts compete whatever their thresholds. A peak below all of them
        suppresses no detection.
        """
        limits = self.options.thresholds.of(self.targets.names)
        one_at_a_time = self.options.search.one_at_a_time
        if one_at_a_time:
            limits[:] = limits.min()
        if self.references is not None:
            rest = self.options.choose is None and not one_at_a_time
            limits[self.chance_texts if rest else slice(None)] = -np.inf
        return limits

    @functools.cached_property
    def chance_texts(self) -> NDArray[np.intp]:
        """Those of the references of all recordings, also of unreadable ones: their peaks are kept."""
        assert self.references is not None
        return chance_texts(self.references, len(self.targets.names))

    @functools.cached_property
    def _of(self) -> dict[str, Any]:
        of = search_settings(self.model, self.targets, self.options.search)
        return of | {"targets": self.targets.source, "floor": digest(self.floor)}

    def _path(self, recording: Recording | Unopened) -> Path:
        folder = self.folder if self.shard is None else self.shard.path / FOLDER
        return folder / f"{recording.path.stem}.npz"

    def _load(self, recording: Recording | Unopened) -> Found | None:
        of = self._of | {"recording": stamp(recording)}
        own = self._path(recording)
        found = load_peaks(own, of, self.options.force)
        if found is None and self.shard is not None:  # an earlier run, whose shards were merged
            found = load_peaks(self.folder / own.name, of, self.options.force)
        return found

    def found(self, recording: Recording | Unopened) -> Found:
        """What is saved of a recording, which has been searched."""
        found = self._load(recording)
        assert found is not None, recording.path
        return found

    def failed(self, recordings: Sequence[Recording | Unopened]) -> dict[str, str]:
        """The names of those that could not be searched, and why."""
        reasons = {recording.path.name: self.found(recording).failed for recording in recordings}
        return {name: reason for name, reason in reasons.items() if reason}

    def readable(
        self, recordings: Sequence[Recording | Unopened], references: Sequence[Segments] | None
    ) -> tuple[list[tuple[Recording, Segments | None]], dict[str, str]]:
        """The recordings that were searched, with their references, and why the others were not.

        Raises UserError if none was.
        """
        failed = self.failed(recordings)
        _refuse_if_all([*failed.values()], len(recordings))
        of_each: Sequence[Segments | None] = references or [None] * len(recordings)
        searched = [
            (recording, reference)
            for recording, reference in zip(recordings, of_each)
            if isinstance(recording, Recording) and recording.path.name not in failed
        ]
        return searched, failed

    def search(self, recordings: Sequence[Recording | Unopened]) -> int:
        """Search what is not saved yet, and again what failed; returns the number of windows."""
        if self.shard is None and self.folder.is_dir():
            remove_leftovers(self.folder)
        grid = self.options.search.grid
        counts = [
            len(grid.spans(recording.count, recording.fps)) if isinstance(recording, Recording) else 0
            for recording in recordings
        ]
        record = None if self.shard is None else self.shard.record_progress
        with Progress(sum(counts), self.options.show_progress, record, unit="window") as progress:
            done = 0

            def advance(windows: int) -> None:
                nonlocal done
                done += windows
                progress.move_to(done, sum(counts))
                progress.show(0)

            for recording, end in zip(recordings, itertools.accumulate(counts)):
                if (earlier := self._load(recording)) is not None and not earlier.failed:
                    log.info("%s: searched by an earlier run", recording.path)
                else:
                    found = self._search(recording, advance)
                    save_peaks(self._path(recording), found, self._of | {"recording": stamp(recording)})
                advance(end - done)
        return sum(counts)

    def _search(self, recording: Recording | Unopened, advance: Callable[[int], None]) -> Found:
        if isinstance(recording, Unopened):
            return Found.nothing(recording.reason)
        try:
            return find_peaks(self.model, recording, self.targets, self.options.search, self.floor, advance)
        except UserError as error:
            return Found.nothing(str(error))

    def take(self, recordings: Sequence[Recording | Unopened], shards: Sequence[ShardFolder]) -> None:
        """Move the peaks of all shards to the folder. Raises UserError if a recording has none."""
        self.folder.mkdir(exist_ok=True)
        for number, recording in enumerate(recordings):
            shard = shards[number % len(shards)]
            path = shard.path / FOLDER / self._path(recording).name
            if path.exists():
                path.replace(self._path(recording))
            if self._load(recording) is None:
                raise UserError(
                    f"--merge: shard {shard.shard} has no peaks of {recording.path}: run the command with "
                    f"--shard {shard.shard}."
                )


def search_settings(model: SignCLIP, targets: Targets, options: SpotOptions) -> dict[str, Any]:
    """What scores and peaks depend on, besides the recording."""
    return {
        "model": model.fingerprint,
        "measure": targets.measure,
        "lengths": sorted({*options.grid.lengths}),
        "step": options.grid.step,
        "overlap": options.overlap,
        "one_at_a_time": options.one_at_a_time,
    }


def stamp(recording: Recording | Unopened) -> list[Any]:
    """What tells whether a recording is still the same."""
    read = [recording.mirror, recording.fps] if isinstance(recording, Recording) else []
    return [*file_stamp(recording.path.stat()), *read]


def digest(*arrays: NDArray) -> str:
    """A short hash of arrays, with their shapes."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def save_peaks(path: Path, found: Found, of: dict[str, Any]) -> None:
    """Write the peaks of a recording, or why it has none. of: what they depend on."""
    about = json.dumps({"format": _FORMAT, "of": of, "unread": asdict(found.unread), "failed": found.failed})
    save_npz(
        path,
        spans=found.peaks.spans,
        texts=found.peaks.texts,
        scores=found.peaks.scores,
        curve=found.curve,
        about=np.frombuffer(about.encode(), np.uint8),
    )


def load_peaks(path: Path, of: dict[str, Any], force: bool = False) -> Found | None:
    """The peaks of an earlier run with the same settings; None if there are none.

    Raises UserError for a file of another program, and, unless `force`, for peaks with other settings, if
    the recording could be searched.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as parts:
            about = json.loads(parts["about"].tobytes())
            peaks = Peaks(parts["spans"], parts["texts"], parts["scores"])
            found = Found(peaks, parts["curve"], Unread(**about["unread"]), about.get("failed", ""))
    except Exception as error:
        raise UserError(
            f"{path} was not written by this command, or is damaged ({error}): delete it, or give another "
            "folder."
        ) from None
    if about["of"] == of and about["format"] == _FORMAT:
        return found
    if not force and not found.failed:
        raise UserError(
            f"{path} holds peaks of another run ({differing(about['of'], of)}): give another folder, or "
            "--force to replace them."
        )
    return None
