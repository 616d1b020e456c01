"""CSV and TSV files with a start, an end and a text in each row."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmpt.timed_text.caption import LONGEST_MS, Caption, Findings, parse_time, tidy
from mmpt.timed_text.text_file import read_decoded
from mmpt.utils.cells import header_hint, parse_number, separator_of
from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write

UNITS = {"ms": 1.0, "s": 1000.0}
_NAMES = {
    **{f"{{}}{ending}": 1.0 for ending in ("_ms", "_milliseconds")},
    **{f"{{}}{ending}": 1000.0 for ending in ("_s", "_sec", "_seconds")},
    "{}": None,
    "{}_time": None,
}
"""Names of a column of times -> milliseconds of its unit; None: the name does not say it."""
_TEXTS = ("text", "sentence", "caption", "translation", "gloss")


def read_timed_csv(
    path: str | Path,
    unit: str | None = None,
    encoding: str | None = None,
    offset_ms: int = 0,
    findings: Findings | None = None,
) -> list[Caption]:
    """The rows of a CSV (or .tsv) file as captions; see `tidy`.

    Columns: a start and an end, named start_ms and end_ms, or start_s and end_s, or start and end with `unit`
    ("ms" or "s"); times such as 00:01:02.500 need no unit. A text (text, sentence, caption, translation or
    gloss). Optional: tier, signer. Raises UserError with the line of a row that cannot be read.
    """
    path = Path(path)
    content = read_decoded(path, encoding)
    separator = separator_of(path)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True)
    rows = _rows(path, reader)
    line, header = next(rows, (1, []))
    columns = [name.strip().lower() for name in header]
    where = f"{path}, line {line}"
    if repeated := [name for name in columns if name and columns.count(name) > 1]:
        raise UserError(f"{where}: there are two columns {repeated[0]!r}: remove or rename one.")
    start, end = (_time_column(where, columns, which, separator) for which in ("start", "end"))
    text = next((name for name in _TEXTS if name in columns), None)
    if text is None:
        raise UserError(f"{where}: expected a column {', '.join(_TEXTS)}, got {', '.join(columns)}.")
    places = [columns.index(name) for name in (start, end, text)]
    rows = _without_swallowed(path, rows, places, separator)
    return tidy(_cues(path, columns, (start, end, text), unit, rows), offset_ms, findings)


def write_timed_csv(path: str | Path, captions: Sequence[Caption]) -> None:
    """Write captions as CSV (or .tsv) with the columns start_ms, end_ms, text, tier and signer."""
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator_of(path), lineterminator="\n")
        writer.writerow(["start_ms", "end_ms", "text", "tier", "signer"])
        for caption in captions:
            row = [caption.start_ms, caption.end_ms, caption.text, caption.tier, caption.signer]
            writer.writerow(row)


def _rows(path: Path, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of the rows that are not empty. Raises UserError."""
    line, width = 1, 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                width = width or len(cells)
                if len(cells) != width:
                    raise UserError(f"{path}, line {line}: expected {width} cells, got {len(cells)}.")
                yield line, cells
            line = reader.line_num + 1  # type: ignore[attr-defined]
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: not readable as CSV ({error}).") from error


def _without_swallowed(
    path: Path, rows: Iterator[tuple[int, list[str]]], places: Sequence[int], separator: str
) -> Iterator[tuple[int, list[str]]]:
    """The rows. Raises UserError for a cell that holds a whole row: start, end and text at `places`."""
    start, end, _ = places
    for line, cells in rows:
        for cell in (cell for cell in cells if "\n" in cell):
            for part in (row.split(separator) for row in cell.split("\n")):
                if len(part) > max(places) and _moment(part[start]) < _moment(part[end]):
                    raise UserError(
                        f"{path}, line {line}: a cell that starts with {cell[:20]!r} spans the next rows: "
                        "its quote is not closed."
                    )
        yield line, cells


def _moment(cell: str) -> float:
    """The time of a cell in its unit, NaN if it is none."""
    moment = parse_time(cell)
    return parse_number(cell) if moment is None else moment


def _time_column(where: str, columns: Sequence[str], which: str, separator: str) -> str:
    names = [name.format(which) for name in _NAMES]
    given = [name for name in names if name in columns]
    if len(given) != 1:
        raise UserError(
            f"{where}: expected one column of {', '.join(names)}, got {', '.join(columns) or 'none'}."
            f"{header_hint(columns, names, separator)}"
        )
    return given[0]


def _cues(
    path: Path,
    columns: Sequence[str],
    names: tuple[str, str, str],
    unit: str | None,
    rows: Iterator[tuple[int, list[str]]],
) -> Iterator[tuple[str, Caption]]:
    *times, text = names
    for line, cells in rows:
        row = dict(zip(columns, cells))
        where = f"{path}, line {line}"
        start, end = (_milliseconds(f"{where}, column {name!r}", name, row[name], unit) for name in times)
        tier, signer = (row.get(name, "").strip() for name in ("tier", "signer"))
        yield where, Caption(start, end, row[text], tier, signer)


def _milliseconds(where: str, column: str, cell: str, unit: str | None) -> int:
    moment = parse_time(cell)
    if moment is not None:
        return moment
    scale = next(
        scale for name, scale in _NAMES.items() if column in (name.format("start"), name.format("end"))
    )
    number = parse_number(cell)
    if not abs(number) < LONGEST_MS:
        raise UserError(f"{where}: expected a number or a time such as 00:01:02.500, got {cell!r}.")
    if scale is not None and unit is not None and scale != UNITS[unit]:
        other = next(name for name, value in UNITS.items() if value == scale)
        raise UserError(
            f"{where}: the name of the column says {other}, not {unit}: leave out the unit (--unit)."
        )
    if scale is None and unit is None:
        raise UserError(
            f"{where}: {cell!r} may be milliseconds or seconds: name the columns start_ms and end_ms, or "
            "start_s and end_s, or give the unit (--unit ms or s)."
        )
    return round(number * (UNITS[unit] if scale is None and unit is not None else scale or 1.0))
