"""Search recordings into a folder: resumable; CSV, ELAN, pictures, metrics, thresholds."""

import csv
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
from mmpt.spotting.metrics import Annotated, Criterion, Segments, choose_thresholds, spotting_metrics
from mmpt.spotting.peak_files import FOLDER, load_peaks, save_peaks
from mmpt.spotting.peaks import Peaks
from mmpt.spotting.picture import draw_scores
from mmpt.spotting.scores import Targets
from mmpt.spotting.thresholds import Thresholds
from mmpt.spotting.windows import Recording
from mmpt.timed_text import Caption, write_elan
from mmpt.utils.errors import UserError
from mmpt.utils.files import file_stamp, read_json, remove_leftovers, write_json
from mmpt.utils.lock import folder_lock
from mmpt.utils.output_kinds import SPOTTING
from mmpt.utils.outputs import check_output, replace_output
from mmpt.utils.progress import Progress
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
    of a run with other settings. resamples: of the intervals.
    """

    search: SpotOptions = field(default_factory=SpotOptions)
    thresholds: Thresholds = field(default_factory=lambda: Thresholds(0.5))
    choose: str | None = None
    criterion: Criterion = field(default_factory=lambda: Criterion("iou", 0.3))
    tier_per_text: bool = False
    force: bool = False
    show_progress: bool = True
    resamples: int = 1000


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
    each recording; then metrics are in the report, and peaks of all scores are kept. Raises UserError, also
    if `out` holds something else or was made with other settings.
    """
    recordings = _opened(model, paths, options.search)
    check_references(recordings, references or [])
    settings = search_settings(model, targets, options.search)
    _check(options, settings, references)
    _check_names(targets.names, options.tier_per_text)
    of = settings | _output_settings(options, recordings, targets, references)
    names = [f"{path.stem}{suffix}" for path in paths for suffix in _SUFFIXES]
    check_output(out, SPOTTING, of, options.force, names)
    floor = options.thresholds.of(targets.names)
    if references is not None:
        floor = np.full_like(floor, -np.inf)
    if (done := _finished(out, of)) is not None:
        log.info("%s: finished by an earlier run", out)
        return done
    with folder_lock(out, "another spotting"):
        found = _search(model, recordings, targets, out / FOLDER, options, floor)
        none = Segments(np.zeros((0, 2)), np.zeros(0, np.intp))
        annotated = [
            _annotated(recording, each.peaks, reference)
            for recording, each, reference in zip(recordings, found, references or [none] * len(found))
        ]
        thresholds = options.thresholds
        if options.choose:
            thresholds = _chosen(annotated, targets.names, options, settings)
        limits = thresholds.of(targets.names)
        kept = [each.peaks.of(each.peaks.scores >= limits[each.peaks.texts]) for each in found]
        report = _report(recordings, found, kept) | {"settings": settings}
        report["thresholds"] = {"common": _finite(thresholds.common), **thresholds.chosen}
        if references is not None:
            report["metrics"] = spotting_metrics(annotated, limits, options.resamples)
        with replace_output(out, SPOTTING, of, options.force) as fresh:
            for number, recording in enumerate(recordings):
                base = fresh / recording.path.stem
                rows = detections(kept[number], targets.names, recording.fps)
                _write_csv(base, rows)
                _write_elan(base, recording.path, rows, options.tier_per_text)
                shown = _annotated(recording, kept[number], annotated[number].reference)
                drawn = found[number].curve, targets.names, limits, references is not None
                draw_scores(base.with_name(f"{base.name}.png"), shown, *drawn)
            if options.choose:
                thresholds.write(fresh / THRESHOLDS)
            write_json(fresh / SPOTTING.record, report)
    return report


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
        "targets": _digest_of(targets),
        "thresholds": f"{options.choose} at {options.criterion}" if options.choose else limits,
        "recordings": {recording.path.name: _stamp(recording) for recording in recordings},
        "references": _digest(*segments) if references is not None else None,
        "tier_per_text": options.tier_per_text,
    }


def _stamp(recording: Recording) -> list[Any]:
    return [*file_stamp(recording.path.stat()), recording.mirror, recording.fps]


def _digest_of(targets: Targets) -> str:
    return _digest(targets.vectors, targets.owners, text="\n".join(targets.names))


def _digest(*arrays: NDArray, text: str = "") -> str:
    digest = hashlib.sha256(text.encode())
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _opened(model: SignCLIP, paths: Sequence[Path], options: SpotOptions) -> list[Recording]:
    """The recordings. Raises UserError if one cannot be read, or two would have the same output."""
    if not paths:
        raise UserError("there is no recording to search.")
    by_name: dict[str, Path] = {}
    for path in paths:
        if (other := by_name.setdefault(path.stem, path)) is not path:
            raise UserError(f"{other} and {path} would both write {path.stem}.csv: rename one of them.")
    return [options.recording(model, path) for path in paths]


def _search(
    model: SignCLIP,
    recordings: Sequence[Recording],
    targets: Targets,
    folder: Path,
    options: RunOptions,
    floor: NDArray[np.float32],
) -> list[Found]:
    """The peaks of each recording, of this run or of an earlier one."""
    if folder.is_dir():
        remove_leftovers(folder)
    of = search_settings(model, targets, options.search)
    of |= {"targets": _digest_of(targets), "floor": _digest(floor)}
    grid = options.search.grid
    counts = [len(grid.spans(recording.count, recording.fps)) for recording in recordings]
    found: list[Found] = []
    with Progress(sum(counts), options.show_progress, unit="window") as progress:
        done = 0

        def advance(windows: int) -> None:
            nonlocal done
            done += windows
            progress.move_to(done, sum(counts))
            progress.show(0)

        for recording, count in zip(recordings, counts):
            path = folder / f"{recording.path.stem}.npz"
            of_this = of | {"recording": _stamp(recording)}
            there = load_peaks(path, of_this, options.force)
            if there is None:
                there = find_peaks(model, recording, targets, options.search, floor, advance)
                save_peaks(path, there, of_this)
            else:
                log.info("%s: searched by an earlier run", recording.path)
                advance(count)
            found.append(there)
    return found


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


def _report(recordings: Sequence[Recording], found: Sequence[Found], kept: Sequence[Peaks]) -> dict[str, Any]:
    """What was searched and found; a warning for windows without a score."""
    rows = []
    for recording, each, peaks in zip(recordings, found, kept):
        unread, seconds = each.unread, recording.count / recording.fps
        if unread.blank or unread.bad:
            first = f" (the first: {unread.first_error})" if unread.bad else ""
            log.warning(
                "%s: %d of %d windows have no score: %d show no hand that the model reads, %d cannot be "
                "read%s",
                *(recording.path, unread.blank + unread.bad, unread.windows, unread.blank, unread.bad, first),
            )
        about = {"recording": recording.path.name, "seconds": seconds, "windows": unread.windows}
        about |= {"blank": unread.blank, "unreadable": unread.bad, "detections": len(peaks.scores)}
        rows.append(about)
    return {"recordings": rows}


def _write_csv(base: Path, rows: Sequence[Detection]) -> None:
    with open(base.with_name(f"{base.name}.csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["start_ms", "end_ms", "text", "score"])
        for row in rows:
            start, end = _milliseconds(row)
            writer.writerow([start, end, row.text, f"{row.score:.4f}"])


def _write_elan(base: Path, recording: Path, rows: Sequence[Detection], tier_per_text: bool) -> None:
    """The detections as ELAN tiers, linked to the video that has the recording's name, if there is one."""
    tiers: dict[str, list[Caption]] = {} if tier_per_text and rows else {TIER: []}
    for row in rows:
        tier = row.text if tier_per_text else TIER
        tiers.setdefault(tier, []).append(Caption(*_milliseconds(row), row.text, tier))
    videos = [
        path for path in sorted(recording.parent.glob(f"{glob.escape(recording.stem)}.*")) if is_video(path)
    ]
    write_elan(base.with_name(f"{base.name}.eaf"), tiers, videos[0] if len(videos) == 1 else None)


def _milliseconds(row: Detection) -> tuple[int, int]:
    """Start and end, at least 1 ms apart."""
    start = round(1000 * row.start)
    return start, max(round(1000 * row.end), start + 1)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
