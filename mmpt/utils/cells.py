"""Cells of CSV files: numbers, and why a header lacks columns."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a |"}


def parse_number(cell: str) -> float:
    """The decimal number of a cell, NaN if it is none. Unlike float(), it takes no 1_000, nan or inf."""
    number = cell.strip()  # also of \x1f, which float() does not take
    return float(number) if _NUMBER.fullmatch(number) else math.nan


def separator_of(path: str | Path) -> str:
    """A tab in .tsv files, else a comma."""
    return "\t" if Path(path).suffix.lower() == ".tsv" else ","


def header_hint(columns: Sequence[str], wanted: Sequence[str], separator: str = ",") -> str:
    """Why the `wanted` columns may be missing, as a sentence: another separator, or other capitals; or ""."""
    if columns and columns[0].lower().startswith("sep="):
        return " Remove the first line, which only names the separator."
    line = separator.join(columns)
    for other, name in _SEPARATORS.items():
        if other != separator and set(wanted) & {cell.strip().lower() for cell in line.split(other)}:
            return f" The cells seem to be separated by {name}: separate them by {_SEPARATORS[separator]}."
    if other_case := [name for name in columns if name not in wanted and name.lower() in wanted]:
        there = ", ".join(other_case)
        return f" Capitals count: write {there.lower()} instead of {there}."
    return ""
