"""The cells of CSV, TSV and Parquet files as text, row by row."""

import csv
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.videos import CLIP_SUFFIXES

log = logging.getLogger(__name__)


def csv_rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of a CSV file, without empty lines. Raises UserError.

    Where | separates the cells, as in some corpora, quotes are part of the text. Elsewhere a quoted cell may
    hold separators and line breaks. If it holds whole rows of the table, its quote was not closed, which is
    an error.
    """
    line, columns = 1, list[str]()
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(
                file,
                delimiter=separator,
                quoting=csv.QUOTE_NONE if separator == "|" else csv.QUOTE_MINIMAL,
                strict=True,
            )
            for cells in reader:
                if any("\0" in cell for cell in cells):
                    raise csv.Error("it holds a zero byte")
                if any(cell.strip() for cell in cells):
                    _check_quotes(path, line, cells, separator, columns)
                    yield line, cells
                columns = columns or [cell.strip() for cell in cells]
                line = reader.line_num + 1  # of the next row: quoted cells may hold line breaks
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: it is not UTF-8 text (byte {error.start}): save it as UTF-8.") from error
    except csv.Error as error:
        raise UserError(
            f"{path}, line {line}: not readable as a table ({error}); is the file truncated?"
        ) from error


def _check_quotes(
    path: Path, line: int, cells: Sequence[str], separator: str, columns: Sequence[str]
) -> None:
    """Raises UserError for a cell that holds whole rows, because it starts with an unclosed quote."""
    own = cells[columns.index("path")] if "path" in columns and len(cells) == len(columns) else ""
    for cell in cells:
        if any(_is_row(part.split(separator), columns, own) for part in cell.split("\n")[1:]):
            raise UserError(
                f"{path}, line {line}: a cell that starts with {cell[:20]!r} spans the next rows: its quote "
                'is not closed. Double quotes within a quoted cell ("" for "), or remove it.'
            )


def _is_row(cells: Sequence[str], columns: Sequence[str], own: str) -> bool:
    """Whether a line of a cell is a row of the table: with a clip's file in the column `path`.

    own: the file of the row that the cell is in; if it has no suffix, other files may have none.
    """
    place = columns.index("path") if "path" in columns else len(cells)
    if len(cells) <= place:
        return False
    file = cells[place].strip()
    if _is_clip(file):
        return True
    return len(cells) == len(columns) and not _is_clip(own) and bool(file) and " " not in file


def _is_clip(file: str) -> bool:
    return Path(file.strip()).suffix.lower() in CLIP_SUFFIXES


def parquet_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """(line number as in a CSV file of the same rows, cells) of a Parquet file; missing values are empty.

    Columns that are no text, such as lists, durations and images, are left out with a warning. Raises
    UserError if one of the `needed` columns is.
    """
    parquet = parquet_module()
    try:
        table = parquet.read_table(path)
    except Exception as error:  # pyarrow raises all kinds of exceptions on invalid bytes
        raise UserError(f"{path}: not readable as Parquet ({str(error).splitlines()[0][:160]}).") from None
    names, columns = [], []
    for name, column in zip(table.column_names, table.columns):
        cells = _cells(column)
        if cells is not None:
            names.append(name)
            columns.append(cells)
            continue
        what = f"{path}, column {name!r}: it holds {column.type}, and not a text or number in each row"
        if name in needed:
            raise UserError(f"{what}: write one in each row (text as UTF-8, times as milliseconds).")
        log.warning("%s: it is left out", what)
    yield 1, names
    yield from zip(itertools.count(2), map(list, zip(*columns)))


def _cells(column: Any) -> list[str] | None:
    """The cells of a Parquet column as text; None if they are lists, durations, or bytes but not UTF-8."""
    from pyarrow import string, types

    if types.is_nested(column.type) or types.is_duration(
        column.type
    ):  # 1 s, as text, would be taken for 1 ms
        return None
    exact = {types.is_float32: np.float32, types.is_float16: np.float16}
    number = next((kind for is_so, kind in exact.items() if is_so(column.type)), float)
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        return None
    except ValueError:  # nanoseconds, which Python's times do not have
        values = column.cast(string()).to_pylist()
    try:
        return [_text(value, number) for value in values]
    except UnicodeDecodeError:
        return None


def _text(value: Any, number: type = float) -> str:
    """A value as text. number: its type in the file, which decides the digits of a float.

    Integers that are floats, because other cells are missing, become integers again.
    """
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(number(value))
    return value.decode() if isinstance(value, bytes) else str(value)


def parquet_module() -> Any:
    """pyarrow.parquet. Raises MissingDataError if it is not installed."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDataError(
            "Parquet needs the package pyarrow: `pip install pyarrow==21.0.0` (newer versions need NumPy 2), "
            "or use CSV."
        ) from error
    return parquet
