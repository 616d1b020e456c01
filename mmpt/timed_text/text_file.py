"""The text of a file whose encoding is known: by its byte order mark, by option, or UTF-8."""

import codecs
from pathlib import Path

from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import check_regular

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def check_encoding(encoding: str | None) -> None:
    """Raises UserError for an encoding that Python does not know, or that is none of text."""
    try:
        if encoding is not None:
            "".encode(encoding)
            b"".decode(encoding)
    except (LookupError, ValueError) as error:
        raise UserError(
            f"there is no text encoding {encoding!r}: give one such as utf-8, utf-16 or cp1252."
        ) from error


def read_decoded(path: str | Path, encoding: str | None = None) -> str:
    r"""The text of a file, with all line ends as \n.

    A byte order mark decides the encoding; without one it is `encoding`, by default UTF-8. Raises UserError
    if the bytes are not of that encoding, or if `encoding` contradicts the mark.
    """
    path = Path(path)
    check_encoding(encoding)
    check_regular(path)
    if not path.is_file():
        raise MissingDataError(f"there is no file {path}.")
    content = path.read_bytes()
    marked = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    family = (marked or "").partition("-sig")[0]
    if marked and encoding and not codecs.lookup(encoding).name.startswith(family):
        raise UserError(f"{path}: it starts with the byte order mark of {family}, not {encoding}.")
    used = marked or encoding or "utf-8"
    try:
        text = content.decode(used)
    except UnicodeError as error:  # punycode's has no place
        place = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise UserError(
            f"{path}: not {used} text{place}: give its encoding (--encoding), such as cp1252 "
            "or utf-16, or save it as UTF-8."
        ) from error
    if "\0" in text:
        raise UserError(
            f"{path}: it holds zero bytes, as UTF-16 without a byte order mark has them: give its encoding "
            "(--encoding), such as utf-16-le."
        )
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
