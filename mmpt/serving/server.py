"""Run the app on a port until SIGTERM or Ctrl-C."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Collection
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from mmpt.serving.guard import HEADERS
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

_STOPPING = 5
"""Seconds to finish, in addition to the limit of a request."""
_INVALID = b'{"error":"this is no valid HTTP request."}'


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0: a free one. Raises UserError if it cannot."""
    if not 0 <= port < 1 << 16:
        raise UserError(f"--port {port}: expected 0 to 65535.")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(1024)
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


def run(app: ASGIApp, opened: socket.socket, seconds: float) -> None:
    """Answer requests until SIGTERM or Ctrl-C, then finish the current ones; the signal is raised again.

    seconds: to receive the headers of a request, and until a client reads a part of its answer.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings show bytes of the form
    settings: dict[str, Any] = {
        "http": _protocol(seconds),
        "ws": "none",
        "loop": "asyncio",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "timeout_keep_alive": 30,
        "timeout_graceful_shutdown": int(seconds) + _STOPPING,
    }
    uvicorn.Server(uvicorn.Config(app, **settings)).run(sockets=[opened])


def _protocol(seconds: float) -> type[H11Protocol]:
    """HTTP that closes the connections of slow clients, and refuses other input as JSON.

    Slow clients: those that do not send their headers in time, and those that do not read their answer.
    """

    class Protocol(H11Protocol):
        _due: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait_for_headers()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
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

        def _wait_for_headers(self) -> None:
            in_work = self.cycle is not None and not self.cycle.response_complete
            if in_work or self.transport.is_closing():
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
