"""Read and check the form of a request."""

import asyncio
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mmpt.registry import nearest
from mmpt.serving import Limits
from mmpt.serving.engine import Upload
from mmpt.utils.errors import TooLargeError, UserError

TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")
_YES = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Form:
    """A request's files and texts by field, in order."""

    files: Mapping[str, list[Upload]]
    texts: Mapping[str, list[str]]

    def one(self, field: str) -> str | None:
        """The text of a field; None without one. Raises UserError if there are several."""
        values = self.texts.get(field, [])
        if len(values) > 1:
            raise UserError(f"the field {field!r} was given {len(values)} times: give it once.")
        return values[0] if values else None

    def number(self, field: str, default: int, least: int) -> int:
        """A whole number. Raises UserError."""
        text = self.one(field)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
            raise UserError(f"{field}: got {_shown(text)}; expected a whole number of at least {least}.")
        return int(text)

    def truth(self, field: str) -> bool:
        """True or false (default: false). Raises UserError."""
        text = self.one(field) or "false"
        if text.lower() not in _YES:
            raise UserError(f"{field}: got {_shown(text)}; expected true or false.")
        return _YES[text.lower()]


async def read_form(request: Request, files: Collection[str], texts: Collection[str], limits: Limits) -> Form:
    """The form of a request with these fields only.

    Raises UserError for another form, TooLargeError above a limit, HTTPException (408) if it is too slow.
    """
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() not in TYPES:
        got = _shown(kind) if kind else "nothing"
        raise UserError(f"Content-Type: got {got}; expected {TYPES[0]} (curl: -F clip=@FILE).")
    if "charset" in parameters.lower() and "utf-8" not in parameters.lower():
        raise UserError("Content-Type: expected texts in UTF-8, got another charset.")
    if coding := request.headers.get("content-encoding"):
        raise UserError(f"Content-Encoding: got {_shown(coding)}; expected a body that is not compressed.")
    read = _multipart if kind.strip().lower() == TYPES[0] else _urlencoded
    try:
        async with asyncio.timeout(limits.seconds):
            form = await read(request, limits)
    except TimeoutError:
        raise HTTPException(408, f"the request was not complete after {limits.seconds:g} seconds.") from None
    except MultiPartException as error:
        if "Too many" in error.message or "exceeded maximum" in error.message:
            raise _too_large(limits) from None
        raise UserError(f"the form cannot be read ({error.message.rstrip('.')}).") from None
    return await _checked(form, files, texts, limits)


class _Parser(MultiPartParser):
    """Starlette's, which keeps files in memory and the bytes of texts, and refuses a form without its end."""

    spool_max_size = sys.maxsize
    _charset = property(lambda self: "latin-1", lambda self, value: None)  # one character for each byte
    _complete = False

    def on_end(self) -> None:
        self._complete = True

    async def parse(self) -> FormData:
        form = await super().parse()
        if not self._complete:
            raise MultiPartException("it ends before its last boundary: send it again")
        return form


async def _multipart(request: Request, limits: Limits) -> FormData:
    sizes = {"max_files": limits.clips, "max_part_size": 4 * limits.characters}
    parser = _Parser(request.headers, request.stream(), max_fields=_most_fields(limits), **sizes)
    return await parser.parse()


async def _urlencoded(request: Request, limits: Limits) -> FormData:
    body = (await request.body()).decode("latin-1")
    if body.count("&") >= _most_fields(limits):
        raise _too_large(limits)
    return FormData([*parse_qsl(body, keep_blank_values=True, encoding="latin-1")])


def _most_fields(limits: Limits) -> int:
    return limits.prompts + 10  # the other fields


def _too_large(limits: Limits) -> TooLargeError:
    most = f"{limits.clips} files, {limits.prompts} prompts and {limits.characters} characters in each"
    return TooLargeError(f"the form is too large: at most {most} are read.")


async def _checked(form: FormData, files: Collection[str], texts: Collection[str], limits: Limits) -> Form:
    _check_fields(form, files, texts)
    found: dict[str, list[Upload]] = {}
    words: dict[str, list[str]] = {}
    for field, value in form.multi_items():
        if isinstance(value, UploadFile):
            uploads = found.setdefault(field, [])
            name = _name(_decoded("the name of a file", value.filename or "")) or f"number {len(uploads)}"
            uploads.append(Upload(name, await value.read()))
        else:
            words.setdefault(field, []).append(_checked_text(field, _decoded(field, value), limits))
    if len(words.get("prompt", [])) > limits.prompts:
        raise TooLargeError(f"got {len(words['prompt'])} prompts; at most {limits.prompts} are read.")
    return Form(found, words)


def _check_fields(form: FormData, files: Collection[str], texts: Collection[str]) -> None:
    for name, value in form.multi_items():
        field = _decoded("the name of a field", name)
        if field not in (*files, *texts):
            known = [*files, *texts]
            hint = nearest(field, known)
            raise UserError(f"there is no field {_shown(field)}.{hint} Expected {', '.join(known)}.")
        if isinstance(value, UploadFile) != (field in files):
            kind, other = ("a file", "a text") if field in files else ("a text", "a file")
            raise UserError(f"the field {field!r} must be {kind}, got {other}.")


def _checked_text(field: str, text: str, limits: Limits) -> str:
    if len(text) > limits.characters:
        raise TooLargeError(f"{field}: got {len(text)} characters; at most {limits.characters} are read.")
    if field == "prompt" and not text.strip():
        raise UserError("the prompt is empty: write what is signed.")
    return text


def _decoded(what: str, text: str) -> str:
    """A text whose characters are the bytes that were sent. Raises UserError if they are not UTF-8."""
    content = text.encode("latin-1")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UserError(f"{what}: got {content[:60]!r}, which is not UTF-8: send texts in UTF-8.") from None


def _shown(text: str) -> str:
    """A text of the client for a message: short, printable."""
    return repr(_short(text))


def _name(file: str) -> str:
    """The name of a file for messages, without its folder: short and printable."""
    name = "".join(c for c in file.replace("\\", "/").rpartition("/")[2] if c.isprintable())
    return _short(name)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."
