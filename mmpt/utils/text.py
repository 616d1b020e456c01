"""Normalise text (Unicode NFC), make it printable, split the lines of a list, and count in words."""

import unicodedata
from pathlib import Path
from typing import Any

from mmpt.utils.errors import UserError
from mmpt.utils.files import read_text


def nfc(text: str) -> str:
    """The text in Unicode NFC: an é typed as e and an accent becomes one character."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def printable(text: Any, most: int = 160) -> str:
    """Text of a stranger in a message: at most `most` printable characters."""
    shown = "".join(character if character.isprintable() else "?" for character in str(text))
    return shown if len(shown) <= most else shown[:most] + "..."


def read_lines(path: str | Path) -> list[str]:
    r"""The lines of a UTF-8 file, which end with \n or \r\n only, in NFC and without spaces around them.

    str.splitlines also cuts at U+2028, U+0085 and form feeds, which may be part of a prompt. Raises OSError,
    and UserError for bytes that are not UTF-8 and for a \r that ends no line.
    """
    lines = [nfc(line).strip(" \t\r") for line in read_text(path).split("\n")]
    for number, line in enumerate(lines, start=1):
        if "\r" in line:
            raise UserError(
                f"{path}, line {number}: it holds a carriage return that does not end the line: save the "
                "file with line ends \\n or \\r\\n."
            )
    return lines


def counted(count: int, one: str, many: str | None = None) -> str:
    """The count with its noun, and a verb if it has one: "1 clip shows", "2 clips show".

    many: None: `one` with an s.
    """
    return f"{count} {one if count == 1 else many or one + 's'}"
