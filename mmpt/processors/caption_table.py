"""Rows of a table of clips: one for each caption of a recording, or for each clip of a class."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmpt.processors.recording_files import Recording, cut_to, find_recordings, match_captions
from mmpt.processors.split_rules import SplitRule, signers
from mmpt.processors.table_file import SPLIT_NAMES
from mmpt.processors.table_writer import split_by, unique_ids
from mmpt.timed_text import Caption, Findings, check_options, read_captions
from mmpt.timed_text.elan import tier_names
from mmpt.utils.errors import UserError
from mmpt.utils.logging import some_of

Row = dict[str, str]


@dataclass(frozen=True)
class CaptionFiles:
    """Where the captions of recordings are, and how they are read (see mmpt.timed_text.read_captions)."""

    folder: Path
    suffixes: Sequence[str]
    language: str | None = None
    tiers: Sequence[str] = ()
    encoding: str | None = None
    unit: str | None = None
    offset_ms: int = 0
    media: str | None = None

    def read(self, path: Path, findings: Findings) -> list[Caption]:
        """The captions of one file. Raises UserError, also for several ELAN tiers of which none is chosen."""
        if path.suffix.lower() == ".eaf" and not self.tiers and len(names := tier_names(path)) > 1:
            raise UserError(f"{path}: choose tiers (--tier NAME). Tiers: {', '.join(map(repr, names))}.")
        return read_captions(path, self.tiers, self.encoding, self.unit, self.offset_ms, findings, self.media)


@dataclass(frozen=True)
class TableRules:
    """What the rows of a table hold besides the captions.

    out: the table. signer: see mmpt.processors.split_rules.signers; None: the captions' own. fps: rows of
    features per second. suffix: of the recordings. values: other columns, the same in all rows.
    """

    out: Path
    split: SplitRule
    signer: str | None = None
    fps: float | None = None
    suffix: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    def path(self, recording: Recording) -> str:
        """The recording's path, relative to the table."""
        return Path(os.path.relpath(recording.path, self.out.parent)).as_posix()


def caption_rows(folder: Path, files: CaptionFiles, rules: TableRules, findings: Findings) -> list[Row]:
    """One row for each caption of the recordings in a folder. Raises UserError, also if there is none.

    What is left out or changed is added to the findings.
    """
    captions = _captions(folder, files, rules, findings)
    features = {recording.path.suffix.lower() == ".npy" for recording in captions}
    if len(features) > 1:
        raise UserError(
            f"{folder}: it holds features (.npy) and other files: choose by suffix (--suffix .pose)."
        )
    if rules.fps is not None and True not in features:
        raise UserError(f"{folder}: it holds no features (.npy), which --fps is for: leave it out.")
    named = signers(rules.signer, [recording.name for recording in captions]) if rules.signer else {}
    splits = rules.split.assign(
        {
            recording.name: {named.get(recording.name, caption.signer) for caption in those}
            for recording, those in captions.items()
        }
    )
    tiers = any(caption.tier for those in captions.values() for caption in those)
    rows = []
    for recording, those in captions.items():
        for caption in those:
            row = {
                "id": f"{recording.name}-{caption.start_ms}",
                "path": rules.path(recording),
                **_times(caption, rules.fps if True in features else None),
                "text": caption.text,
                "split": splits[recording.name],
                "signer": named.get(recording.name, caption.signer),
            }
            rows.append(row | ({"tier": caption.tier} if tiers else {}) | dict(rules.values))
    return _with_unique_ids(rows)


def _captions(
    folder: Path, files: CaptionFiles, rules: TableRules, findings: Findings
) -> dict[Recording, list[Caption]]:
    """The captions of each recording that has some, within the recording. Raises UserError if none has."""
    recordings = find_recordings(folder, rules.suffix)
    matched, stray = match_captions(recordings, files.folder, files.suffixes, files.language)
    check_options(list(matched.values()), files.unit, files.encoding, files.media)
    captions = {
        recording: _within(recording, files.read(matched[recording.name], findings), rules.fps, findings)
        for recording in recordings
        if recording.name in matched
    }
    without = [recording.name for recording in recordings if not captions.get(recording)]
    findings.add("recordings without captions, left out", some_of(without), len(without))
    stray = [name for name in stray if (files.folder / name).absolute() != rules.out.absolute()]
    findings.add("files of captions without a recording, left out", some_of(stray), len(stray))
    if len(without) == len(recordings):
        raise UserError(f"{folder}: no recording has captions. {'; '.join(findings.lines())}")
    return {recording: those for recording, those in captions.items() if those}


def _within(
    recording: Recording, captions: Sequence[Caption], fps: float | None, findings: Findings
) -> list[Caption]:
    """The captions cut to the recording."""
    if not captions:
        return []
    length = recording.length(fps)
    if length is None:
        findings.add("videos whose duration is not compared with their captions", str(recording.path))
    kept = []
    for caption in captions:
        where = f"{recording.name} at {caption.start_ms} ms"
        times = cut_to(caption.start_ms, caption.end_ms, length, where, findings)
        if times is not None:
            kept.append(Caption(*times, caption.text, caption.tier, caption.signer))
    return kept


def _times(caption: Caption, fps: float | None) -> Row:
    """The columns of the times: milliseconds, or rows of features."""
    if fps is None:
        return {"start": str(caption.start_ms), "end": str(caption.end_ms)}
    first, last = (round(moment * fps / 1000) for moment in (caption.start_ms, caption.end_ms))
    return {"start_frame": str(first), "end_frame": str(max(last, first + 1))}


def folder_rows(folder: Path, rules: TableRules) -> list[Row]:
    """One row for each clip of a tree CLASS/CLIP or SPLIT/CLASS/CLIP; its text is the name of the class.

    Without folders of splits, the split is by the rule; by recording, it is made within each class. Raises
    UserError for a clip elsewhere in the tree.
    """
    clips = find_recordings(folder, rules.suffix)
    parts = {clip: Path(clip.name).parts for clip in clips}
    split_folders = all(len(those) == 3 and those[0].lower() in SPLIT_NAMES for those in parts.values())
    depth = 3 if split_folders else 2
    if wrong := [clip.name for clip in clips if len(parts[clip]) != depth]:
        raise UserError(
            f"{folder}: expected CLASS/CLIP for all clips, or SPLIT/CLASS/CLIP with the splits "
            f"{', '.join(SPLIT_NAMES)}; got {some_of(wrong)}."
        )
    if split_folders and rules.split.options:
        raise UserError(
            f"{folder}: its folders are the splits: leave out {' and '.join(rules.split.options)}."
        )
    named = signers(rules.signer, [clip.name for clip in clips]) if rules.signer else {}
    if split_folders:
        splits = {clip.name: SPLIT_NAMES[parts[clip][0].lower()] for clip in clips}
    elif rules.split.file or rules.split.by == "signer":
        splits = rules.split.assign({clip.name: {named.get(clip.name, "")} for clip in clips})
    else:
        splits = {}
        _, valid, test = rules.split.shares
        for label in sorted({parts[clip][-2] for clip in clips}):
            those = [clip.name for clip in clips if parts[clip][-2] == label]
            splits |= split_by(those, (test / 100, valid / 100), rules.split.seed)
    rows = [
        {
            "id": clip.name,
            "path": rules.path(clip),
            "text": parts[clip][-2],
            "split": splits[clip.name],
            "signer": named.get(clip.name, ""),
            **rules.values,
        }
        for clip in clips
    ]
    return _with_unique_ids(rows)


def _with_unique_ids(rows: list[Row]) -> list[Row]:
    for row, name in zip(rows, unique_ids(row["id"] for row in rows)):
        row["id"] = name
    return rows
