"""Calls a server (`signclip serve`) from Python; needs the standard library only."""

import http.client
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmpt.utils.errors import UserError
from mmpt.utils.files import check_regular


class Client:
    """A server's API. Each method returns the JSON that /openapi.json of the server describes.

    Clips are paths of files, or their bytes; one clip or prompt may be given without a list. Raises UserError
    with the server's message, or if it does not answer.

    Examples:
        >>> Client("http://127.0.0.1:8000").rank(["clip.pose"], ["Fingerspell the letter A."])

    Args:
        address: of the server. token: if it needs one. timeout: seconds to wait for an answer.
    """

    def __init__(self, address: str = "http://127.0.0.1:8000", token: str | None = None, timeout: float = 60):
        if not address.startswith(("http://", "https://")):
            raise UserError(f"{address!r}: expected the address of a server, such as http://127.0.0.1:8000.")
        self.address = address.partition("#")[0].rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = timeout

    def model(self) -> dict[str, Any]:
        """What the server serves."""
        return self._ask("/model")

    def embed(
        self, clips: Sequence[Any] = (), prompts: Sequence[str] = (), mirror: bool = False
    ) -> dict[str, Any]:
        """Embeddings of clips and prompts."""
        return self._post("/api/embed", clips, prompts, mirror)

    def score(self, clips: Sequence[Any], prompts: Sequence[str], mirror: bool = False) -> dict[str, Any]:
        """Cosine similarity, "scores": [prompts][clips]."""
        return self._post("/api/score", clips, prompts, mirror)

    def rank(
        self, clips: Sequence[Any], prompts: Sequence[str] = (), top: int = 10, mirror: bool = False
    ) -> dict[str, Any]:
        """The prompts (default: the server's) for each clip, the most similar first."""
        return self._post("/api/rank", clips, prompts, mirror, top=top)

    def search(
        self, prompt: str | None = None, clip: Any = None, k: int = 10, mirror: bool = False
    ) -> dict[str, Any]:
        """The clips of the server's index that are most similar to a prompt or to a clip."""
        clips, prompts = ([] if given is None else [given] for given in (clip, prompt))
        return self._post("/api/search", clips, prompts, mirror, k=k)

    def _post(
        self, path: str, clips: Sequence[Any], prompts: Sequence[str], mirror: bool, **fields: int
    ) -> dict[str, Any]:
        clips = _listed(clips, (str, bytes, Path), "clips must be paths or bytes")
        prompts = _listed(prompts, (str,), "prompts must be texts")
        texts = [("prompt", text) for text in prompts] + [("mirror", "true" if mirror else "false")]
        texts += [(name, str(value)) for name, value in fields.items()]
        boundary = uuid.uuid4().hex
        start = f"--{boundary}\r\nContent-Disposition: form-data; name="
        try:
            parts = [f'{start}"{name}"\r\n\r\n{text}\r\n'.encode() for name, text in texts]
        except UnicodeEncodeError as error:
            raise UserError(f"the prompts {prompts!r} are not valid Unicode: read them as UTF-8.") from error
        for number, clip in enumerate(clips):
            name, content = (f"number {number}", clip) if isinstance(clip, bytes) else _read(clip)
            name = "".join(c for c in name if c not in '\\"' and c.isprintable())
            parts.append(f'{start}"clip"; filename="{name}"\r\n\r\n'.encode() + content + b"\r\n")
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        return self._ask(path, body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})

    def _ask(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        try:
            request = urllib.request.Request(self.address + path, body, self._headers | (headers or {}))
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise UserError(_message(error)) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UserError(f"{self.address}: no answer ({error}): is `signclip serve` running?") from error


def _listed(values: Any, types: tuple[type, ...], message: str) -> list[Any]:
    """The values, or one, as a list. Raises UserError unless they are of these types."""
    given = list(values) if isinstance(values, Iterable) and not isinstance(values, types) else [values]
    for value in given:
        if not isinstance(value, types):
            raise UserError(f"{message}, got {value!r} ({type(value).__name__}).")
    return given


def _read(path: str | Path) -> tuple[str, bytes]:
    check_regular(path)
    try:
        return Path(path).name, Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; expected the file of a clip.") from error


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return f"{json.load(error)['error']} (status {error.code})"
    except (OSError, ValueError, KeyError, TypeError):
        return f"the server answered with status {error.code}, and no reason."
