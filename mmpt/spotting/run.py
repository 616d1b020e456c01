"""From recordings to a folder: search, thresholds, metrics and the files of each recording."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.embedding.embedder import SignCLIP
from mmpt.spotting.metrics import (
    Annotated,
    Segments,
    choose_thresholds,
    spotting_metrics,
)
from mmpt.spotting.scores import Targets
from mmpt.spotting.searching import (
    FOLDER,
    RunOptions,
    SavedPeaks,
    Unopened,
    digest,
    open_recordings,
    search_settings,
    stamp,
)
from mmpt.spotting.thresholds import Thresholds, finite_or_none
from mmpt.spotting.windows import Recording
from mmpt.spotting.writing import SUFFIXES, Writer, annotated, check_texts
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json, write_json
from mmpt.utils.output_kinds import SPOTTING
from mmpt.utils.outputs import check_output, replace_output
from mmpt.utils.shards import FOLDER as SHARDS
from mmpt.utils.shards import ShardFolder

log = logging.getLogger(__name__)

THRESHOLDS = "thresholds.json"


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
    recordings are kept in `out`/peaks, so that an interrupted run is resumed by the same call. Recordings
    that cannot be read are left out, and are in the report under "failed"; the same call tries them again.
    references: of each recording; then metrics are in the report. A shard searches its recordings only, and
    returns the numbers of these and of their windows. Raises UserError, also if no recording can be read, or
    if `out` holds something else or was made with other settings.
    """
    recordings = open_recordings(model, paths, options.search)
    check_references(recordings, references or [])
    settings = search_settings(model, targets, options.search)
    _check(options, settings, references)
    check_texts(targets.names)
    of = settings | _output_settings(options, recordings, targets, references)
    names = [f"{path.stem}{suffix}" for path in paths for suffix in SUFFIXES]
    check_output(out, SPOTTING, of, options.force, names)
    done = None if (out / SHARDS).is_dir() else _finished(out, of)
    if done is not None and (options.sharding.merge or not done.get("failed")):
        log.info("%s: finished by an earlier run", out)
        return done
    with options.sharding.locked(out, of, "another spotting") as shards:
        saved = SavedPeaks(out / FOLDER, model, targets, options, references)
        if options.sharding.merge:
            saved.take(recordings, shards)
        elif shards:
            return _search_shard(recordings, saved, shards[0])
        else:
            saved.search(recordings)
        readable, failed = saved.readable(recordings, references)
        thresholds = options.thresholds
        metrics: dict[str, Any] = {}
        if references is not None:
            thresholds, metrics = _measured(readable, saved, settings)
        report = {"settings": settings, **metrics, "failed": failed}
        report["thresholds"] = {"common": finite_or_none(thresholds.common), **thresholds.chosen}
        limits = thresholds.of(targets.names)
        with replace_output(out, SPOTTING, of, options.force) as fresh:
            writer = Writer(fresh, out, targets.names, limits, options.tier_per_text)
            report["recordings"] = [
                writer.write(recording, saved.found(recording), reference)
                for recording, reference in readable
            ]
            if options.choose:
                thresholds.write(fresh / THRESHOLDS)
            write_json(fresh / SPOTTING.record, report)
    return report


def _measured(
    recordings: Sequence[tuple[Recording, Segments | None]], saved: SavedPeaks, settings: dict[str, Any]
) -> tuple[Thresholds, dict[str, Any]]:
    """The thresholds, which may be chosen on these recordings, and the metrics with them."""
    options, names = saved.options, saved.targets.names
    known = [
        annotated(recording, saved.found(recording).peaks, reference)
        for recording, reference in recordings
        if reference is not None
    ]
    thresholds = options.thresholds
    if options.choose:
        thresholds = _chosen(known, names, options, settings)
    exchanged = saved.chance_texts
    metrics = spotting_metrics(known, thresholds.of(names), options.resamples, exchanged=exchanged)
    return thresholds, {"metrics": metrics, "chance_texts": len(exchanged)}


def _search_shard(
    recordings: Sequence[Recording | Unopened], saved: SavedPeaks, shard: ShardFolder
) -> dict[str, Any]:
    """Search the recordings of a shard, in turn."""
    own = [recording for number, recording in enumerate(recordings) if shard.shard.has_number(number)]
    saved = dataclasses.replace(saved, shard=shard)
    windows = saved.search(own)
    failed = saved.failed(own)
    return {
        "shard": str(shard.shard),
        "searched": len(own) - len(failed),
        "windows": windows,
        "failed": failed,
    }


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


def check_references(recordings: Sequence[Recording | Unopened], references: Sequence[Segments]) -> None:
    """Warn of segments that start after the end of their recording."""
    for recording, reference in zip(recordings, references):
        if isinstance(recording, Unopened):
            continue
        seconds = recording.count / recording.fps
        if late := int(np.count_nonzero(reference.spans[:, 0] >= seconds)):
            log.warning(
                "%s: %d of %d segments of its reference start after its end (%.1f s): is the reference of "
                "another recording? They count as not found",
                *(recording.path, late, len(reference.spans), seconds),
            )


def _finished(out: Path, of: dict[str, Any]) -> dict[str, Any] | None:
    """The report of an earlier run with the same settings; check_output has compared its files."""
    try:
        report: dict[str, Any] = read_json(out / SPOTTING.record)
    except (OSError, ValueError):
        return None
    same = report.get("of") == json.loads(json.dumps(of))
    return report if same and all((out / name).is_file() for name in report["files"]) else None


def _output_settings(
    options: RunOptions,
    recordings: Sequence[Recording | Unopened],
    targets: Targets,
    references: Sequence[Segments] | None,
) -> dict[str, Any]:
    """What else the output depends on."""
    chosen = f"{options.choose} at {options.criterion}"
    segments = [part for reference in references or () for part in reference]
    return {
        "targets": targets.source,
        "thresholds": chosen if options.choose else digest(options.thresholds.of(targets.names)),
        "recordings": {recording.path.name: stamp(recording) for recording in recordings},
        "references": digest(*segments) if references is not None else None,
        "tier_per_text": options.tier_per_text,
    }


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
