"""Run the app on a port until SIGTERM or Ctrl-C."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import math
import resource
import socket
import time
from collections.abc import Collection
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from mmpt.serving import Limits
from mmpt.serving.guard import HEADERS
from mmpt.utils.errors import UserError
from mmpt.utils.logging import log_level

log = logging.getLogger(__name__)

_STOPPING = 5
"""Seconds to finish, in addition to the limit of a request."""
_QUEUE, _AT_ONCE = 1024, 32
"""Connections that wait until they are accepted, and of those, how many are accepted at once."""
_IDLE = 1000
"""Connections without a request, beside those with one."""
_FILES = 64 + 4 * _AT_ONCE
"""Open files beside the connections: the server's own, and connections that are being accepted or closed."""
_INVALID = b'{"error":"this is no valid HTTP request."}'


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0: a free one.

    Raises UserError if it cannot, and inside an event loop, where `run` cannot run another one.
    """
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise UserError("an event loop runs here, as in a notebook: run `signclip serve` in a terminal.")
    if not 0 <= port < 1 << 16:
        raise UserError(f"--port {port}: expected 0 to 65535.")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(_QUEUE)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot listen on {host}, port {port} ({reason}): give another --port.") from error
    opened.set_inheritable(False)
    return opened


def is_local(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def local_names(host: str) -> Collection[str]:
    """The names of a server that only this machine can reach, as a browser sends them."""
    return {"127.0.0.1", "localhost", "[::1]", host}


def address_of(opened: socket.socket) -> str:
    """The address of the page."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def most_connections(limits: Limits) -> int:
    """The number of connections that are kept open: fewer than the files that this process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = limits.requests + _IDLE
    return most if files == resource.RLIM_INFINITY else max(_AT_ONCE, min(most, files - _FILES))


def run(app: ASGIApp, opened: socket.socket, limits: Limits) -> None:
    """Answer requests until SIGTERM or Ctrl-C, then finish the current ones; the signal is raised again.

    limits.seconds: to receive the headers of a request, and until a client reads a part of its answer.
    """
    settings: dict[str, Any] = {
        "http": _protocol(limits.seconds, most_connections(limits)),
        "ws": "none",
        "loop": "asyncio",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "backlog": _AT_ONCE,
        "timeout_keep_alive": 30,
        "timeout_graceful_shutdown": int(limits.seconds) + _STOPPING,
    }
    # warnings of python_multipart show bytes of the form
    with log_level(logging.WARNING, "uvicorn.error"), log_level(logging.ERROR, "python_multipart"):
        _Server(uvicorn.Config(app, **settings)).run(sockets=[opened])


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().set_exception_handler(_report)
        for opened in sockets or []:
            opened.listen(_QUEUE)


_reported = -math.inf


def _report_connections(message: str, *values: object) -> None:
    """Log a line about connections, at most once a minute."""
    global _reported
    if time.monotonic() - _reported > 60:
        _reported = time.monotonic()
        log.warning(message, *values)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong in the event loop; asyncio has a traceback for each connection."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        _report_connections("a connection cannot be accepted (%s): raise `ulimit -n`", error.strerror)
    else:
        loop.default_exception_handler(context)


def _protocol(seconds: float, most: int) -> type[H11Protocol]:
    """HTTP that closes the connections of slow clients, and refuses other input as JSON.

    Slow clients: those that do not send their headers in time, and those that do not read their answer. Above
    `most` connections, the one that has been without a request for longest is closed.
    """

    class Protocol(H11Protocol):
        _heard = 0.0
        _due: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._heard = self.loop.time()
            self._wait_for_headers()
            if len(self.connections) > most:
                self._close_longest_idle()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._heard = self.loop.time()
            self._wait_for_headers()

        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            self._stop_waiting()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._unread.cancel()

        def _in_work(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _close_longest_idle(self) -> None:
            kept = [one for one in self.connections if not one.transport.is_closing()]
            if len(kept) > most:
                idle = [one for one in kept if isinstance(one, Protocol) and not one._in_work()]
                min(idle, key=lambda one: one._heard).transport.abort()
                line = "the limit of %d connections is reached: those idle for longest are closed"
                _report_connections(line, most)

        def _wait_for_headers(self) -> None:
            if self._in_work() or self.transport.is_closing():
                self._stop_waiting()
            elif self._due is None:
                self._due = self.loop.call_later(seconds, self.transport.close)

        def _stop_waiting(self) -> None:
            if self._due is not None:
                self._due.cancel()
                self._due = None

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                headers = {"content-type": "application/json", "connection": "close", **HEADERS}
                for event in (
                    h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request"),
                    h11.Data(data=_INVALID),
                    h11.EndOfMessage(),
                ):
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    return Protocol
