"""Tables of clips: CSV, TSV or Parquet files with the columns `id`, `path`, `text` or `gloss`, and others.

    id, path                            unique name; file of the clip, relative to the table's folder
    text or gloss                       what is signed (if only one is given, it is used for both)
    split                               train, valid (or val, dev, validation), test
    signed_language, spoken_language    codes or names, for prompts
    signer                              who signs
    start, end                          the part of the file in milliseconds, end exclusive; start_ms and
                                        end_ms are the same; start_frame and end_frame count frames
    left_handed                         true or false: mirror the clip

Any other column may be named in a prompt template.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmpt.pose.span import Span
from mmpt.processors.table_lines import csv_rows, parquet_rows
from mmpt.utils.cells import header_hint, parse_number, separator_of
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import check_regular
from mmpt.utils.text import nfc
from mmpt.utils.videos import how_to_extract, is_video

SPLITS = ("train", "valid", "test")
SUFFIXES = (".csv", ".tsv", ".parquet")
SPLIT_NAMES = {**{name: name for name in SPLITS}, "val": "valid", "dev": "valid", "validation": "valid"}
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
_STARTS = {"start": "ms", "start_ms": "ms", "start_frame": "frames"}
_ENDS = {"end": "ms", "end_ms": "ms", "end_frame": "frames"}
SPAN_COLUMNS = (*_STARTS, *_ENDS)
_KNOWN = (
    *("id", "path", "text", "gloss", "split", "signed_language", "spoken_language", "signer", "left_handed"),
    *SPAN_COLUMNS,
)


@dataclass(frozen=True)
class TableRow:
    """One clip of a table.

    line: its line in the file, where the header is line 1. split: one of SPLITS, or "". values: every column
    as text, for prompts.
    """

    line: int
    id: str
    path: Path
    text: str
    split: str = ""
    signed_language: str = ""
    spoken_language: str = ""
    signer: str = ""
    span: Span | None = None
    left_handed: bool = False
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table's rows, in order, and its columns."""

    path: Path
    columns: list[str]
    rows: list[TableRow]

    def of_split(self, split: str) -> list[TableRow]:
        """The rows of one split. Raises UserError if there are none."""
        if "split" not in self.columns:
            raise UserError(
                f"{self.path}: there is no column 'split': add it, with train, valid or test in each row."
            )
        rows = [row for row in self.rows if row.split == split]
        if not rows:
            found = ", ".join(sorted({row.split for row in self.rows})) or "none"
            raise UserError(f"{self.path}: column 'split' has no row of {split!r}; it has: {found}.")
        return rows


def is_table(path: Path) -> bool:
    """Whether a path has the suffix of a table."""
    return path.suffix.lower() in SUFFIXES


def read_table(path: str | Path) -> Table:
    """Read and check a table, but not its clips.

    Raises MissingDataError if the file is missing, UserError for an invalid table, naming file, line and
    column.
    """
    path = Path(path)
    check_regular(path)
    if not path.is_file():
        raise MissingDataError(
            f"there is no table {path}: expected a .csv, .tsv or .parquet file. Tables of published corpora "
            "are written by scripts/import_*.py (each says with --help how to get the data); configs look "
            "for them in SIGNCLIP_DATA."
        )
    if not is_table(path):
        hint = f" This is a video: {how_to_extract(path.parent, '.pose')}." if is_video(path) else ""
        raise UserError(f"{path}: expected a table, a .csv, .tsv or .parquet file.{hint}")
    separator = separator_of(path)
    parquet = path.suffix.lower() == ".parquet"
    lines = parquet_rows(path, _KNOWN) if parquet else csv_rows(path, separator)
    _, header = next(lines, (1, []))
    columns = [name.strip() for name in header]
    _check_columns(path, columns, separator)
    rows, seen = [], dict[str, int]()
    for line, cells in lines:
        if len(cells) != len(columns):
            raise UserError(
                f"{path}, line {line}: expected {len(columns)} cells ({', '.join(columns)}), got "
                f"{len(cells)}; cells that hold the separator must be quoted."
            )
        row = _row(path, line, dict(zip(columns, (cell.strip() for cell in cells))))
        if row.id in seen:
            raise UserError(
                f"{path}, line {line}, column 'id': {row.id!r} is also the id of line {seen[row.id]}."
            )
        seen[row.id] = line
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: the table has no rows below its header.")
    return Table(path, columns, rows)


def _check_columns(path: Path, columns: Sequence[str], separator: str) -> None:
    for name in columns:
        if columns.count(name) > 1:
            raise UserError(f"{path}, line 1: the column {name!r} occurs twice.")
    missing = [name for name in ("id", "path") if name not in columns]
    missing += [] if {"text", "gloss"} & set(columns) else ["text (or gloss)"]
    if missing:
        raise UserError(
            f"{path}, line 1: there is no column {', '.join(missing)}; got "
            f"{', '.join(columns) or 'nothing'}.{header_hint(columns, _KNOWN, separator)} Known columns: "
            f"{', '.join(_KNOWN)}."
        )
    for kind in (_STARTS, _ENDS):
        given = [name for name in kind if name in columns]
        if len(given) > 1:
            raise UserError(f"{path}, line 1: the columns {' and '.join(given)} mean the same: keep one.")
    starts, ends = ([kind[n] for n in kind if n in columns] for kind in (_STARTS, _ENDS))
    if starts and ends and starts != ends:
        raise UserError(f"{path}, line 1: start is in {starts[0]}, end in {ends[0]}: use one unit.")


def _row(path: Path, line: int, values: dict[str, str]) -> TableRow:
    for column, cell in values.items():
        if column != "path":  # é as one or two characters must be one class
            values[column] = nfc(cell)
    for one, other in (("text", "gloss"), ("gloss", "text")):
        values.setdefault(one, values.get(other, ""))
    text_column = "text" if values["text"] or not values["gloss"] else "gloss"
    for column in ("id", "path", text_column):
        if not values[column]:
            raise UserError(f"{path}, line {line}, column {column!r}: it is empty.")
    split = values.get("split", "")
    if "split" in values and split.lower() not in SPLIT_NAMES:
        raise UserError(
            f"{path}, line {line}, column 'split': expected {_one_of(SPLIT_NAMES)}, got {split!r}."
        )
    left = values.get("left_handed", "")
    if left.lower() not in _TRUTH:
        raise UserError(f"{path}, line {line}, column 'left_handed': expected true or false, got {left!r}.")
    return TableRow(
        line=line,
        id=values["id"],
        path=path.parent / values["path"],
        text=values[text_column],
        split=SPLIT_NAMES.get(split.lower(), ""),
        signed_language=values.get("signed_language", ""),
        spoken_language=values.get("spoken_language", ""),
        signer=values.get("signer", ""),
        span=_span(path, line, values),
        left_handed=_TRUTH[left.lower()],
        values=values,
    )


def _span(path: Path, line: int, values: Mapping[str, str]) -> Span | None:
    start_column = next((name for name in _STARTS if values.get(name)), None)
    end_column = next((name for name in _ENDS if values.get(name)), None)
    if start_column is None and end_column is None:
        return None
    start = 0.0 if start_column is None else _time(path, line, start_column, values[start_column])
    end = None if end_column is None else _time(path, line, end_column, values[end_column])
    if end is not None and end <= start:
        raise UserError(
            f"{path}, line {line}, column {end_column!r}: {end:g} is not after the start, {start:g}."
        )
    if end_column is not None:
        return Span(start, end, _ENDS[end_column])
    assert start_column is not None
    return Span(start, end, _STARTS[start_column])


def _time(path: Path, line: int, column: str, cell: str) -> float:
    moment = parse_number(cell)
    whole = "frame" not in column or moment.is_integer()
    if not 0 <= moment < float("inf") or not whole:
        unit = "frames" if "frame" in column else "milliseconds"
        raise UserError(f"{path}, line {line}, column {column!r}: expected {unit} from 0 up, got {cell!r}.")
    return moment


def _one_of(names: Mapping[str, Any]) -> str:
    return ", ".join(list(names)[:-1]) + " or " + list(names)[-1]
