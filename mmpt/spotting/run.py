"""Search recordings into a folder: resumable; CSV, ELAN, pictures, metrics, thresholds."""

import csv
import dataclasses
import functools
import glob
import hashlib
import json
import logging
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.embedding.embedder import SignCLIP
from mmpt.spotting.finding import Detection, Found, SpotOptions, detections, find_peaks
from mmpt.spotting.metrics import (
    Annotated,
    Criterion,
    Segments,
    chance_texts,
    choose_thresholds,
    spotting_metrics,
)
from mmpt.spotting.peak_files import FOLDER, load_peaks, save_peaks
from mmpt.spotting.peaks import Peaks
from mmpt.spotting.picture import draw_scores
from mmpt.spotting.scores import Targets
from mmpt.spotting.thresholds import Thresholds
from mmpt.spotting.windows import Recording
from mmpt.timed_text import Caption, write_elan
from mmpt.utils.errors import UserError
from mmpt.utils.files import check_name, file_stamp, read_json, remove_leftovers, write_json
from mmpt.utils.output_kinds import SPOTTING
from mmpt.utils.outputs import check_output, replace_output
from mmpt.utils.progress import Progress
from mmpt.utils.shards import FOLDER as SHARDS
from mmpt.utils.shards import ShardFolder, Sharding
from mmpt.utils.videos import is_video

log = logging.getLogger(__name__)

TIER = "spotting"
THRESHOLDS = "thresholds.json"
_SUFFIXES = (".csv", ".eaf", ".png")


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


def spot_recordings(
    model: SignCLIP,
    paths: Sequence[Path],
    targets: Targets,
    out: Path,
    options: RunOptions,
    references: Sequence[Segments] | None = None,
) -> dict[str, Any]:
    """Search each recording and write the folder `out`; returns the report that is in its spotting.json.

    For each recording NAME.csv, NAME.eaf and NAME.png; with thresholds to choose, thresholds.json. Finished
    recordings are kept in `out`/peaks, so that an interrupted run is resumed by the same call. references: of
    each recording; then metrics are in the report. A shard searches its recordings only, and returns the
    numbers of these and of their windows. Raises UserError, also if `out` holds something else or was made
    with other settings.
    """
    recordings = _opened(model, paths, options.search)
    check_references(recordings, references or [])
    settings = search_settings(model, targets, options.search)
    _check(options, settings, references)
    _check_names(targets.names, options.tier_per_text)
    of = settings | _output_settings(options, recordings, targets, references)
    names = [f"{path.stem}{suffix}" for path in paths for suffix in _SUFFIXES]
    check_output(out, SPOTTING, of, options.force, names)
    if (done := _finished(out, of)) is not None and not (out / SHARDS).is_dir():
        log.info("%s: finished by an earlier run", out)
        return done
    with options.sharding.locked(out, of, "another spotting") as shards:
        saved = _Saved(out / FOLDER, model, targets, options, references)
        if options.sharding.merge:
            saved.take(recordings, shards)
        elif shards:
            return _search_shard(model, recordings, saved, shards[0])
        else:
            saved.search(model, recordings)
        thresholds = options.thresholds
        metrics: dict[str, Any] = {}
        if references is not None:
            thresholds, metrics = _measured(recordings, references, saved, settings)
        report = {"settings": settings, **metrics}
        report["thresholds"] = {"common": _finite(thresholds.common), **thresholds.chosen}
        of_each: Sequence[Segments | None] = references or [None] * len(recordings)
        with replace_output(out, SPOTTING, of, options.force) as fresh:
            report["recordings"] = [
                _write(fresh, recording, saved, thresholds, reference)
                for recording, reference in zip(recordings, of_each)
            ]
            if options.choose:
                thresholds.write(fresh / THRESHOLDS)
            write_json(fresh / SPOTTING.record, report)
    return report


def _measured(
    recordings: Sequence[Recording],
    references: Sequence[Segments],
    saved: "_Saved",
    settings: dict[str, Any],
) -> tuple[Thresholds, dict[str, Any]]:
    """The thresholds, which may be chosen on these recordings, and the metrics with them."""
    options, names = saved.options, saved.targets.names
    annotated = [
        _annotated(recording, saved.found(recording).peaks, reference)
        for recording, reference in zip(recordings, references)
    ]
    thresholds = options.thresholds
    if options.choose:
        thresholds = _chosen(annotated, names, options, settings)
    metrics = spotting_metrics(annotated, thresholds.of(names), options.resamples)
    return thresholds, {"metrics": metrics, "chance_texts": len(chance_texts(references, len(names)))}


def _search_shard(
    model: SignCLIP, recordings: Sequence[Recording], saved: "_Saved", shard: ShardFolder
) -> dict[str, Any]:
    """Search the recordings of a shard, in turn."""
    own = [recording for number, recording in enumerate(recordings) if shard.shard.has_number(number)]
    windows = dataclasses.replace(saved, folder=shard.path / FOLDER).search(model, own, shard)
    return {"shard": str(shard.shard), "searched": len(own), "windows": windows}


def _check(options: RunOptions, settings: dict[str, Any], references: Sequence[Segments] | None) -> None:
    """Raises UserError for options that contradict each other."""
    if options.thresholds.settings:
        options.thresholds.check(settings, "--thresholds")
    if options.choose and references is None:
        raise UserError("--choose-threshold needs the references of the recordings: give --reference.")
    if options.choose == "per-text" and options.search.one_at_a_time:
        raise UserError(
            "--choose-threshold per-text: with --one-at-a-time, the texts compete by score: choose a global "
            "threshold."
        )


def check_references(recordings: Sequence[Recording], references: Sequence[Segments]) -> None:
    """Warn of segments that start after the end of their recording."""
    for recording, reference in zip(recordings, references):
        seconds = recording.count / recording.fps
        if late := int(np.count_nonzero(reference.spans[:, 0] >= seconds)):
            log.warning(
                "%s: %d of %d segments of its reference start after its end (%.1f s): is the reference of "
                "another recording? They count as not found",
                *(recording.path, late, len(reference.spans), seconds),
            )


def _check_names(names: Sequence[str], tier_per_text: bool) -> None:
    """Raises UserError for a text that an ELAN file cannot hold, before the recordings are searched."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [Detection(number, number + 1, name, 0.0) for number, name in enumerate(names)]
        _write_elan(Path(folder, "texts"), Path(folder, "texts"), rows, tier_per_text)


def _finished(out: Path, of: dict[str, Any]) -> dict[str, Any] | None:
    """The report of an earlier run with the same settings; check_output has compared its files."""
    try:
        report: dict[str, Any] = read_json(out / SPOTTING.record)
    except (OSError, ValueError):
        return None
    same = report.get("of") == json.loads(json.dumps(of))
    return report if same and all((out / name).is_file() for name in report["files"]) else None


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


def _output_settings(
    options: RunOptions,
    recordings: Sequence[Recording],
    targets: Targets,
    references: Sequence[Segments] | None,
) -> dict[str, Any]:
    """What else the output depends on."""
    limits = options.choose or _digest(options.thresholds.of(targets.names))
    segments = [part for reference in references or () for part in reference]
    return {
        "targets": targets.source,
        "thresholds": f"{options.choose} at {options.criterion}" if options.choose else limits,
        "recordings": {recording.path.name: _stamp(recording) for recording in recordings},
        "references": _digest(*segments) if references is not None else None,
        "tier_per_text": options.tier_per_text,
    }


def _stamp(recording: Recording) -> list[Any]:
    return [*file_stamp(recording.path.stat()), recording.mirror, recording.fps]


def _digest(*arrays: NDArray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _opened(model: SignCLIP, paths: Sequence[Path], options: SpotOptions) -> list[Recording]:
    """The recordings. Raises UserError if one cannot be read or named, or two would have the same output."""
    if not paths:
        raise UserError("there is no recording to search.")
    by_name: dict[str, Path] = {}
    for path in paths:
        check_name(path)
        if (other := by_name.setdefault(path.stem, path)) is not path:
            raise UserError(f"{other} and {path} would both write {path.stem}.csv: rename one of them.")
    return [options.recording(model, path) for path in paths]


@dataclass(frozen=True)
class _Saved:
    """The peaks of recordings, of this run or of an earlier one: a file for each recording in `folder`."""

    folder: Path
    model: SignCLIP
    targets: Targets
    options: RunOptions
    references: Sequence[Segments] | None

    @functools.cached_property
    def floor(self) -> NDArray[np.float32]:
        """The least score of the peaks that are kept: of a text that metrics need, all peaks.

        With one text at a time, the texts compete whatever their thresholds.
        """
        limits = self.options.thresholds.of(self.targets.names)
        if self.references is not None:
            rest = self.options.choose is None and not self.options.search.one_at_a_time
            limits[chance_texts(self.references, len(limits)) if rest else slice(None)] = -np.inf
        return limits

    @functools.cached_property
    def _of(self) -> dict[str, Any]:
        of = search_settings(self.model, self.targets, self.options.search)
        return of | {"targets": self.targets.source, "floor": _digest(self.floor)}

    def _path(self, recording: Recording) -> Path:
        return self.folder / f"{recording.path.stem}.npz"

    def _load(self, recording: Recording) -> Found | None:
        of = self._of | {"recording": _stamp(recording)}
        return load_peaks(self._path(recording), of, self.options.force)

    def found(self, recording: Recording) -> Found:
        """What is saved of a recording, which has been searched."""
        found = self._load(recording)
        assert found is not None, recording.path
        return found

    def search(
        self, model: SignCLIP, recordings: Sequence[Recording], shard: ShardFolder | None = None
    ) -> int:
        """Search what is not saved yet; returns the number of windows."""
        if self.folder.is_dir():
            remove_leftovers(self.folder)
        grid = self.options.search.grid
        counts = [len(grid.spans(recording.count, recording.fps)) for recording in recordings]
        record = None if shard is None else shard.record_progress
        with Progress(sum(counts), self.options.show_progress, record, unit="window") as progress:
            done = 0

            def advance(windows: int) -> None:
                nonlocal done
                done += windows
                progress.move_to(done, sum(counts))
                progress.show(0)

            for recording, count in zip(recordings, counts):
                if self._load(recording) is not None:
                    log.info("%s: searched by an earlier run", recording.path)
                    advance(count)
                    continue
                found = find_peaks(model, recording, self.targets, self.options.search, self.floor, advance)
                save_peaks(self._path(recording), found, self._of | {"recording": _stamp(recording)})
        return sum(counts)

    def take(self, recordings: Sequence[Recording], shards: Sequence[ShardFolder]) -> None:
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


def _annotated(recording: Recording, peaks: Peaks, reference: Segments) -> Annotated:
    """Peaks in frames and the reference, in seconds."""
    found = Segments(peaks.spans / recording.fps, peaks.texts)
    return Annotated(found, peaks.scores, reference, recording.count / recording.fps)


def _chosen(
    recordings: Sequence[Annotated], names: Sequence[str], options: RunOptions, settings: dict[str, Any]
) -> Thresholds:
    """The thresholds with the highest F1 on these recordings."""
    per_text = options.choose == "per-text"
    limits, common, f1, missing = choose_thresholds(recordings, len(names), options.criterion, per_text)
    about = {
        "by": f"{options.choose} F1 at {options.criterion}",
        "F1": f1,
        "recordings": len(recordings),
        "segments": sum(len(recording.reference.texts) for recording in recordings),
        "texts_without_segments": len(missing),
    }
    own = set(range(len(names))) - set(missing) if per_text else set()
    return Thresholds(common, {names[text]: float(limits[text]) for text in sorted(own)}, settings, about)


def _write(
    folder: Path, recording: Recording, saved: _Saved, thresholds: Thresholds, reference: Segments | None
) -> dict[str, Any]:
    """Write the files of a recording; returns what was searched and found."""
    found, names = saved.found(recording), saved.targets.names
    limits = thresholds.of(names)
    kept = found.peaks.of(found.peaks.scores >= limits[found.peaks.texts])
    base = folder / recording.path.stem
    with open(base.with_name(f"{base.name}.csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["start_ms", "end_ms", "text", "score"])
        for row in detections(kept, names, recording.fps):
            writer.writerow([*_milliseconds(row), row.text, f"{row.score:.4f}"])
    best = kept
    if len(kept.scores) > ELAN_MOST:
        best = kept.of(np.sort(np.argsort(-kept.scores, kind="stable")[:ELAN_MOST]))
        log.warning(
            "%s.eaf has the %d detections with the highest scores of %d, because ELAN does not open as many; "
            "%s.csv has all: is the threshold too low?",
            *(recording.path.stem, ELAN_MOST, len(kept.scores), recording.path.stem),
        )
    rows = list(detections(best, names, recording.fps))
    _write_elan(base, recording.path, rows, saved.options.tier_per_text, saved.folder.parent)
    shown = _annotated(recording, kept, _NOTHING if reference is None else reference)
    drawn = found.curve, names, limits, reference is not None
    draw_scores(base.with_name(f"{base.name}.png"), shown, *drawn)
    unread, seconds = found.unread, recording.count / recording.fps
    if unread.blank or unread.bad:
        first = f" (the first: {unread.first_error})" if unread.bad else ""
        log.warning(
            "%s: %d of %d windows have no score: %d show no hand that the model reads, %d cannot be read%s",
            *(recording.path, unread.blank + unread.bad, unread.windows, unread.blank, unread.bad, first),
        )
    about = {"recording": recording.path.name, "seconds": seconds, "windows": unread.windows}
    about |= {"blank": unread.blank, "unreadable": unread.bad, "detections": len(kept.scores)}
    return about | {"in_elan": len(rows)}


ELAN_MOST = 10_000
"""Detections in an ELAN file, at most."""
_NOTHING = Segments(np.zeros((0, 2)), np.zeros(0, np.intp))


def _write_elan(
    base: Path, recording: Path, rows: Sequence[Detection], tier_per_text: bool, home: Path | None = None
) -> None:
    """The detections as ELAN tiers, linked to the video that has the recording's name, if there is one."""
    tiers: dict[str, list[Caption]] = {} if tier_per_text and rows else {TIER: []}
    for row in rows:
        tier = row.text if tier_per_text else TIER
        tiers.setdefault(tier, []).append(Caption(*_milliseconds(row), row.text, tier))
    videos = [
        path for path in sorted(recording.parent.glob(f"{glob.escape(recording.stem)}.*")) if is_video(path)
    ]
    write_elan(base.with_name(f"{base.name}.eaf"), tiers, videos[0] if len(videos) == 1 else None, home)


def _milliseconds(row: Detection) -> tuple[int, int]:
    """Start and end, at least 1 ms apart."""
    start = round(1000 * row.start)
    return start, max(round(1000 * row.end), start + 1)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
