"""What every request passes: limits on its body, headers of the answer, a line of log, and the token."""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmpt.serving import Limits
from mmpt.utils.errors import TooLargeError
from mmpt.utils.text import printable

log = logging.getLogger(__name__)

POLICY = {
    "default-src": "'none'",
    "script-src": "'self' 'wasm-unsafe-eval'",  # MediaPipe's wasm
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' blob:",
    "connect-src": "'self' blob: data:",  # MediaPipe's usage metrics cannot leave the machine
    "worker-src": "'self' blob:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # a browser asks whether a file has changed, such as after an update
}
"""Of every answer: what a browser may do with the page and the API."""

_DRAINED, _DRAINING = 64 << 20, 2.0
"""Bytes and seconds of a refused body that are read, so that a client that still sends sees the answer."""
_LEFT, _TOO_SLOW = 499, 408


class Guard:
    """Middleware of all requests: limits the body, adds headers, and logs a line without contents.

    The rest of a refused body is read and dropped for a short time, then the connection is closed.
    """

    def __init__(self, app: ASGIApp, limits: Limits):
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        # a part of a file helps nobody here, and Starlette refuses a wrong one in its own words
        scope = {**scope, "headers": [header for header in scope["headers"] if header[0] != b"range"]}
        exchange = _Exchange(scope, receive, send, self._limits.bytes)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = _LEFT
        finally:
            milliseconds = 1000 * (time.perf_counter() - started)
            line = (scope["method"], shown_path(scope), exchange.status, exchange.received, milliseconds)
            log.info("%s %s %d, %d bytes, %.1f ms", *line)


class _Exchange:
    """The body and the answer of one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, most: int):
        self.received = 0
        self.status = 500
        self._receive = receive
        self._send = send
        self._most = most
        headers = dict(scope["headers"])
        self._length = _length(headers.get(b"content-length"))
        self._unread = self._length > 0 or b"transfer-encoding" in headers
        self._waits = headers.get(b"expect", b"").lower() == b"100-continue"

    async def receive(self) -> Message:
        """The next part of the body. Raises TooLargeError above the limit."""
        if self._length > self._most:
            raise TooLargeError(f"the request has {self._length:,} bytes; at most {self._most:,} are read.")
        message = await self._next()
        if self.received > self._most:
            raise TooLargeError(f"the request has more than {self._most:,} bytes, which is the limit.")
        return message

    async def _next(self) -> Message:
        message = await self._receive()
        self._waits = False
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self._unread = message.get("more_body", False)
        else:
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; before the first, drop what was not read of the body."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = {name.encode(): value.encode() for name, value in HEADERS.items()}
            if self._unread and self.status != _TOO_SLOW:
                await self._drain()
            if self._unread:
                headers[b"connection"] = b"close"
            message = {**message, "headers": [*message.get("headers", []), *headers.items()]}
        await self._send(message)

    async def _drain(self) -> None:
        most = self.received + _DRAINED
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAINING):
                while self._unread and self.received < most and not self._waits:
                    await self._next()


class Gate:
    """Refuses requests to another host, without the token, and above the number of concurrent requests.

    token: None: none is needed. hosts: names that this server has; None: any. needs_token: whether a path
    needs it.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        token: str | None,
        hosts: Collection[str] | None,
        needs_token: Callable[[str], bool],
    ):
        self._app = app
        self._limits = limits
        self._token = token
        self._hosts = hosts
        self._needs_token = needs_token
        self._working = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        counted = scope["method"] == "POST"
        self._working += counted
        try:
            await self._app(scope, receive, send)
        finally:
            self._working -= counted

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._hosts is not None and _name(host) not in self._hosts:
            return refuse(400, f"this server is {' or '.join(sorted(self._hosts))}: use one of these names.")
        # RFC 9112, 6.1: who reads the one sees another request in the body than who reads the other
        if b"content-length" in headers and b"transfer-encoding" in headers:
            answer = refuse(400, "the request has both Content-Length and Transfer-Encoding: send one.")
            answer.headers["connection"] = "close"
            return answer
        if self._token is not None and self._needs_token(scope["path"]):
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, b"Bearer " + self._token.encode()):
                wanted = (
                    "the header Authorization: Bearer TOKEN, with the token that the server was started with"
                )
                answer = refuse(401, f"this server needs {wanted}.")
                answer.headers["www-authenticate"] = "Bearer"
                return answer
        if scope["method"] == "POST" and self._working >= self._limits.requests:
            answer = refuse(429, f"the limit of {self._working} concurrent requests is reached: try again.")
            answer.headers["retry-after"] = "1"
            return answer
        return None


def refuse(status: int, message: str) -> JSONResponse:
    """An error as the API reports it."""
    return JSONResponse({"error": message}, status)


def shown_path(scope: Scope) -> str:
    """The path of a request for the log or a message: printable, short, without the query."""
    return printable(scope["path"], 100)


def _name(host: str) -> str:
    """A Host header without its port."""
    name, _, port = host.rpartition(":")
    return name if name and port.isdecimal() else host


def _length(header: bytes | None) -> int:
    return int(header) if header is not None and header.isdigit() else 0
