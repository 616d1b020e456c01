"""Leaks between splits: the same clip, by content, or the same signer."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmpt.utils.errors import UserError
from mmpt.utils.files import content_ids
from mmpt.utils.logging import some_of

if TYPE_CHECKING:
    from mmpt.pose.span import Span
    from mmpt.processors.table_file import Table, TableRow

KINDS = ("clips", "signers")


@dataclass
class Leaks:
    """What the splits of a table share.

    clips: groups of rows with equal content, in several splits. repeats: rows of one split with equal content
    and frames (captions of a recording may overlap).
    signers: signer -> clips in each split, for signers in several splits.
    """

    clips: list[list[TableRow]] = field(default_factory=list)
    repeats: list[list[TableRow]] = field(default_factory=list)
    signers: dict[str, dict[str, int]] = field(default_factory=dict)

    def messages(self, table: Path) -> dict[str, list[str]]:
        """One message per leak, by kind."""
        clips = [f"{table}: the same clip is in two splits: {_named(rows)}." for rows in self.clips]
        signers = [
            f"{table}, column 'signer': {signer!r} is in "
            f"{', '.join(f'{s} ({n})' for s, n in splits.items())}."
            for signer, splits in self.signers.items()
        ]
        return {"clips": clips, "signers": signers}

    def in_short(self, table: Path) -> list[str]:
        """One message per kind of leak: the first leak, and the number of others."""
        return [_first(found) for found in self.messages(table).values() if found]

    def refuse(self, table: Path, allowed: Sequence[str]) -> list[str]:
        """Messages about allowed leaks, for the report. Raises UserError for a leak that is not allowed."""
        messages = self.messages(table)
        for kind in KINDS:
            if messages[kind] and kind not in allowed:
                raise UserError(
                    f"{_first(messages[kind])} Results would be too good: correct the splits (`signclip "
                    f"check {table}` lists all leaks), or allow it: --allow-leak {kind}."
                )
        return [line for kind in KINDS for line in messages[kind]]


def find_leaks(rows: Sequence[TableRow], files: Sequence[Path], by_name: bool = False) -> Leaks:
    """Leaks among the rows that are in a split.

    files: the file of each row. Two rows hold the same clip if their files have equal content and a frame is
    read for both. A missing file equals no other. by_name: compare the paths and times, and read no file.
    """
    content = {file: str(file) for file in files} if by_name else content_ids(files)
    groups: dict[str, list[TableRow]] = defaultdict(list)
    file_of: dict[str, Path] = {}
    for row, file in zip(rows, files):
        groups[content[file]].append(row)
        file_of[content[file]] = file
    leaks = Leaks()
    for same, same_content in groups.items():
        for group in _overlapping(_parts(same_content, None if by_name else file_of[same])):
            splits = {part.row.split for part in group if part.row.split}
            if len(splits) > 1:
                leaks.clips.append([part.row for part in group])
            else:
                leaks.repeats += _repeats(group)
    leaks.signers = _shared_signers(rows)
    return leaks


def shared_with_training(table: Table, split: str) -> list[str]:
    """Leaks between a split and the training split, one message per kind, for results and model cards.

    The table is named without its folder. Paths are compared, not the files' content, so copies under
    another name are not found.
    """
    both = [row for row in table.rows if row.split in ("train", split)]
    return find_leaks(both, [row.path for row in both], by_name=True).in_short(Path(table.path.name))


class _Part(NamedTuple):
    """From `start` to `end`, exclusive, of a recording."""

    start: float
    end: float
    row: TableRow


def _parts(rows: list[TableRow], file: Path | None) -> list[_Part]:
    """The frames that each row reads of a file; its times if there is none, or it cannot be read."""
    extent: tuple[int, float | None] | None = None
    if file is not None and len(rows) > 1 and any(row.span is not None for row in rows):
        from mmpt.pose.recording import extent_of
        from mmpt.processors.npy_video import VideoProcessor

        with contextlib.suppress(UserError):  # reported where the clip is read
            extent = (VideoProcessor().shape(file)[0], None) if file.suffix == ".npy" else extent_of(file)
    return [_Part(*_ends(row.span, extent), row) for row in rows]


def _ends(span: Span | None, extent: tuple[int, float | None] | None) -> tuple[float, float]:
    if span is None:
        return 0.0, float("inf")
    if extent is None:
        return span.start, float("inf") if span.end is None else span.end
    try:
        frames = span.frames(*extent)
    except UserError:  # nothing can be read of it
        return float("inf"), float("inf")
    return frames.start, frames.stop


def _overlapping(parts: list[_Part]) -> list[list[_Part]]:
    """Split parts of equal files into groups that overlap."""
    groups: list[list[_Part]] = []
    reached = float("-inf")
    for part in sorted(parts, key=lambda p: p.start):
        if not groups or part.start >= reached:
            groups.append([])
        groups[-1].append(part)
        reached = max(reached, part.end)
    return groups


def _repeats(parts: list[_Part]) -> list[list[TableRow]]:
    """The rows of several equal parts."""
    groups: dict[tuple[float, float], list[TableRow]] = defaultdict(list)
    for part in parts:
        groups[part.start, part.end].append(part.row)
    return [group for group in groups.values() if len(group) > 1]


def _shared_signers(rows: Sequence[TableRow]) -> dict[str, dict[str, int]]:
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.signer and row.split:
            splits[row.signer][row.split] += 1
    return {signer: dict(counts) for signer, counts in splits.items() if len(counts) > 1}


def _first(messages: Sequence[str]) -> str:
    """The first message, and the number of others."""
    return messages[0] + (f" (and {len(messages) - 1} more)" if len(messages) > 1 else "")


def _named(rows: Sequence[TableRow]) -> str:
    return some_of([f"{row.id} ({row.split}, line {row.line})" for row in rows], 4)
