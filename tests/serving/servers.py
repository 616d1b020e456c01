"""Real servers on a free port, in processes of their own."""

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpt.cli.main import main
from tests.commands import Forked
from tests.waiting import PATIENCE

BOUNDARY = "b0undary"


@dataclass
class Server:
    """A running server. log: what it printed so far."""

    process: Forked
    port: int
    token: str | None = None

    @property
    def log(self) -> str:
        """What it printed."""
        return self.process.output[1].read_text()

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self.process.process.pid is not None
        return self.process.process.pid

    @property
    def address(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer. Names of headers are written with underscores."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
                connection.request(method, path, body, named)
            answer = connection.getresponse()
            shown = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, shown, answer.read()

    def json(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        status, _, content = self.ask(method, path, body, **headers)
        return status, json.loads(content)

    def post(self, path: str, *fields: tuple[str, str | bytes], **headers: str) -> tuple[int, Any]:
        """Send a form; bytes are files."""
        return self.json("POST", path, form(*fields), Content_Type=TYPE, **headers)

    def send(self, content: bytes) -> bytes:
        """Send bytes on a connection, and return everything until it is closed."""
        with self.connect() as connection:
            connection.sendall(content)
            return everything(connection)

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def sockets(self) -> int:
        """The number of sockets that it has open."""
        found = 0
        for file in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since
                found += file.readlink().name.startswith("socket:")
        return found

    def memory(self) -> int:
        """Resident memory in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> tuple[int, str]:
        """Stop it with SIGTERM; exit status and log."""
        os.kill(self.pid, signal.SIGTERM)
        ended = self.process.end()
        return ended.returncode, ended.stderr


TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form(*fields: tuple[str, str | bytes]) -> bytes:
    """A form as multipart/form-data; bytes are files."""
    parts = []
    for name, value in fields:
        file = '; filename="a.pose"' if isinstance(value, bytes) else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts.append(head.encode() + (value if isinstance(value, bytes) else value.encode()) + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def everything(connection: socket.socket) -> bytes:
    """What comes until the connection is closed."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1 << 20):
            received += part
    return received


@contextlib.contextmanager
def serving(*words: object, token: str | None = None, files: int | None = None) -> Iterator[Server]:
    """A server with these options, which answers. files: that it may open."""
    more = ["--token", token] if token else []
    command = [*map(str, ("serve", "--port", 0, *words, *more))]
    process = Forked(_signclip_with_files, files, command, OMP_NUM_THREADS="1")
    try:
        yield Server(process, _port(process), token)
    finally:
        if process.process.is_alive():
            process.process.kill()
            process.end()


def _signclip_with_files(files: int | None, words: list[str]) -> int:
    if files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return main(words)


def _port(process: Forked) -> int:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.process.is_alive():
        log = process.output[1]
        if log.exists() and (found := re.search(r"serving .* at http://[^ ]*:(\d+)/", log.read_text())):
            return int(found[1])
        time.sleep(0.02)
    raise AssertionError(f"the server did not start: {process.output[1].read_text()}")
