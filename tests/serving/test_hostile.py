"""Requests of someone who wants to break the server: each is refused in our words, and the server lives."""

import contextlib
import itertools
import json
import random
import signal
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving.servers import TYPE, Server, everything, form, serving
from tests.waiting import PATIENCE, wait_until

Request = tuple[str, str, bytes | Iterator[bytes] | None, dict[str, str]]
RANK = "/api/rank"


def posted(*fields: tuple[str, str | bytes], path: str = RANK, **headers: str) -> Request:
    return "POST", path, form(*fields), {"Content-Type": TYPE, **headers}


def bombs(pose: bytes) -> Iterator[bytes]:
    """Poses whose headers promise far more than follows."""
    body = _body_of(pose)
    for frames, people in ((2**32 - 1, 1), (2**31, 65535), (1, 65535), (0, 1), (1, 0)):
        yield pose[:body] + struct.pack("<fIH", 25, frames, people) + pose[body + 10 :]
    yield pose[:body] + struct.pack("<fIH", float("nan"), 1, 1) + pose[body + 10 :]
    for version in (0.0, 0.1, 0.3, float("nan"), 1e30, -0.2):
        yield struct.pack("<f", version) + pose[4:]
    yield pose[:10] + struct.pack("<H", 65535) + pose[12:]  # components
    name = b"\x05\x00AAAAA"
    yield pose[:10] + struct.pack("<H", 1) + name + name + struct.pack("<HHH", 65535, 0, 0) + b"\0\0" * 65535
    yield pose[:10] + struct.pack("<H", 65535) + (b"\0\0\0\0" + struct.pack("<HHH", 0, 0, 0)) * 65535
    many = struct.pack("<HHH", 65535, 0, 0) + b"\0\0" * 65535
    yield pose[:10] + struct.pack("<H", 20) + (b"\0\0\0\0" + many) * 20
    yield pose[: pose.rindex(b"PINKY_TIP")]


def _body_of(pose: bytes) -> int:
    """Where the frame rate is."""
    from pose_format.pose_header import PoseHeader
    from pose_format.utils.reader import BufferReader

    reader = BufferReader(pose)
    PoseHeader.read(reader)
    return reader.read_offset


def long_clip(pose: bytes, frames: int) -> bytes:
    body = _body_of(pose)
    points = 586 if (len(pose) - body - 10) % (586 * 16) == 0 else 576
    values = b"\0" * (frames * points * 12) + struct.pack("<f", 1) * (frames * points)
    return pose[:body] + struct.pack("<fIH", 25, frames, 1) + values


def fuzzed(pose: bytes, count: int) -> Iterator[Request]:
    """Truncated files, random bytes, and forms that are cut or have wrong lines."""
    draw = random.Random(7)
    for number in range(count):
        if number % 3 == 0:
            yield posted(("clip", pose[: draw.randrange(len(pose))]), ("prompt", "A"))
        elif number % 3 == 1:
            yield posted(("clip", draw.randbytes(draw.randrange(1, 5000))), ("prompt", "A"))
        else:
            whole = bytearray(form(("clip", pose[:2000]), ("prompt", "A")))
            for _ in range(30):
                whole[draw.randrange(300)] = draw.randrange(256)
            cut = bytes(whole[: draw.randrange(1, len(whole))])
            yield "POST", draw.choice([RANK, "/api/score", "/api/search"]), cut, {"Content-Type": TYPE}


def traversals() -> Iterator[Request]:
    """Paths where a row, a name or a file is expected."""
    climbs = [
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/setup.py",
        "%00",
        "a%00.js",
    ]
    climbs += [
        "....//etc/passwd",
        "%5c..%5c..",
        "%ff%fe",
        "a" * 5000,
        "-1",
        "99999999999999999999",
        "1e3",
        "%0a",
    ]
    for start, climb in itertools.product(("/api/clips/", "/api/results/", "/api/data/", "/page/"), climbs):
        yield "GET", start + climb + ("/pose" if start == "/api/clips/" else ""), None, {}
    yield "GET", "/api/clips?start=-1", None, {}
    yield "GET", "/api/clips?count=x&count=y", None, {}
    yield "GET", "/api/clips?number=3", None, {}


def wrong_types(pose: bytes) -> Iterator[Request]:
    yield "POST", RANK, b'{"prompt": "A"}', {"Content-Type": "application/json"}
    yield "POST", RANK, b"", {}
    yield "POST", RANK, b"x", {"Content-Type": "text/plain"}
    yield "POST", RANK, b"x", {"Content-Type": "multipart/form-data"}
    yield "POST", RANK, b"x", {"Content-Type": TYPE}
    yield "POST", RANK, form(("prompt", "A")), {"Content-Type": f"{TYPE}; charset=punycode"}
    yield posted(("clip", pose), ("prompt", "A"), **{"Content-Encoding": "gzip"})
    yield "POST", RANK, b"prompt=A&clip=B", {"Content-Type": "application/x-www-form-urlencoded"}
    yield "POST", "/api/embed", b"prompt=%E9", {"Content-Type": "application/x-www-form-urlencoded"}
    yield "POST", "/api/embed", b"prompt=%ED%B0%80", {"Content-Type": "application/x-www-form-urlencoded"}
    yield "POST", "/api/embed", b"prompt=caf\xe9", {"Content-Type": "application/x-www-form-urlencoded"}
    gbk = form(("prompt", "A")).replace(b"A", "手语".encode("gbk"))
    yield "POST", "/api/embed", gbk, {"Content-Type": TYPE}
    yield (
        "POST",
        "/api/embed",
        form(("prompt", "A"), ("clip", pose)).replace(b"a.pose", b"\xe9"),
        {"Content-Type": TYPE},
    )
    for whole in (form(("prompt", "A"), ("prompt", "B")), form(("prompt", "A"), ("clip", pose))):
        for cut in (3, 9, 20, 300):
            yield "POST", "/api/embed", whole[:-cut], {"Content-Type": TYPE}
    yield posted(("clip", pose), path=f"{RANK}?mirror=true")
    yield "POST", RANK, b"a" * 100_000, {"Content-Type": "application/x-www-form-urlencoded"}
    for fields in (
        [],
        [("prompt", "A")],
        [("clip", "a text"), ("prompt", "A")],
        [("clip", pose), ("prompt", b"a file")],
        [("clip", pose), ("prompt", " ")],
        [("clip", pose), ("prompts", "A")],
        [("clip", b""), ("prompt", "A")],
        [("clip", pose), ("mirror", "maybe")],
        [("clip", pose), ("mirror", "true"), ("mirror", "false")],
        *([("clip", pose), ("top", top)] for top in ("-1", "1.5", "NaN", "\u0661", "9" * 30, "", "0x10")),
    ):
        yield posted(*fields)
    for fields in ([], [("k", "3")], [("prompt", "A"), ("text", "B")], [("prompt", "A"), ("clip", pose)]):
        yield posted(*fields, path="/api/search")
    for k in ("0", "-3", "1e9", "None"):
        yield posted(("prompt", "A"), ("k", k), path="/api/search")
    yield posted(path="/api/embed")
    yield posted(("clip", pose), path="/api/score")
    yield posted(("video", pose), path="/api/extract")
    yield posted(("clip", pose), ("clip", pose), path="/api/pose")
    yield posted(("clip", b"x"), path="/api/pose")
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "FOO"):
        yield method, RANK, b"x", {}
    yield "GET", RANK, None, {}
    yield "POST", "/model", b"x", {}
    yield "POST", "/", form(("clip", pose)), {"Content-Type": TYPE}
    for host in ("evil.example", "", "127.0.0.1.evil.example:80", "localhost@evil"):
        yield "GET", "/model", None, {"Host": host}


def too_much(pose: bytes) -> Iterator[Request]:
    """Above the limits of the fixture `server`."""
    yield posted(("clip", b"\0" * (5 << 20)))
    start = form(("clip", b"")).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    yield "POST", RANK, iter([start, *[b"\0" * (1 << 20)] * 6]), {"Content-Type": TYPE}  # without a length
    yield "POST", RANK, b"x", {"Content-Type": TYPE, "Content-Length": str(10 << 40)}
    yield posted(*[("clip", pose[:100])] * 9)
    yield posted(("clip", pose), *[("prompt", "A")] * 51)
    yield posted(*[("prompt", "A")] * 5000)
    yield posted(("clip", pose), ("prompt", "A" * 301))
    yield posted(("clip", pose), ("prompt", "A" * 100_000))
    yield posted(*[("x", "y")] * 5000)
    yield posted(("clip", long_clip(pose, 501)[: 4 << 20]))


def head_of(length: int) -> bytes:
    """The head of a request whose body has this length."""
    lines = [f"POST {RANK} HTTP/1.1", "Host: localhost", f"Content-Type: {TYPE}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


def check(server: Server, request: Request, wanted: int | None = None) -> None:
    method, path, body, headers = request
    shown = f"{method} {path[:80]} {headers} {body[:80] if isinstance(body, bytes) else body!r}"
    status, answered, content = server.ask(method, path, body, **headers)
    refused = status == wanted if wanted else 400 <= status < 500
    assert refused, f"{shown}: {status} {content[:300]!r}"
    assert answered["content-type"] == "application/json", shown
    message = json.loads(content)["error"]
    assert message and "\n" not in message and len(message) < 1000, shown
    assert not any(word in message for word in ("Traceback", "/tmp", "site-packages", "object at")), message


@pytest.fixture(scope="module")
def pose(poses: dict[str, Path]) -> bytes:
    return next(iter(poses.values())).read_bytes()


@pytest.fixture(autouse=True)
def lives(server: Server, pose: bytes) -> Iterator[None]:
    """After each test the server answers as before, and its log has no traceback."""
    wanted = server.post("/api/score", ("clip", pose), ("prompt", "A"))
    yield
    assert server.post("/api/score", ("clip", pose), ("prompt", "A")) == wanted
    assert "Traceback" not in server.log and "ERROR" not in server.log


def test_hostile_requests_are_refused(server: Server, pose: bytes) -> None:
    requests = [*fuzzed(pose, 90), *traversals(), *wrong_types(pose)]
    requests += [posted(("clip", bomb), ("prompt", "A")) for bomb in bombs(pose)]
    assert len(requests) >= 200
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda request: check(server, request), requests))


def test_too_much_is_413(server: Server, pose: bytes) -> None:
    for request in too_much(pose):
        check(server, request, 413)


@pytest.mark.parametrize(
    "start",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /api/rank HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/rank HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /api/rank HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        # for who reads the length, a second request follows
        b"POST /api/rank HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
        b"\r\n0\r\n\r\nGET /model HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"x: y\r\n" * 20_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    ],
)
def test_no_http(server: Server, start: bytes) -> None:
    received = server.send(start)
    assert b" 400 " in received.partition(b"\r\n")[0] and b'{"error":' in received, received
    assert received.count(b"HTTP/1.1 ") == 1


def slow_starts(pose: bytes) -> list[bytes]:
    """Requests that stop in the body, and in the headers."""
    body = head_of(100_000) + form(("clip", pose))[:500]
    return [body] * 20 + [b"POST /api/rank HTTP/1.1\r\nHost: loc"] * 20


def test_parts_of_files_are_not_served(server: Server) -> None:
    for wanted in ("bytes=0-9", "bytes=5-1", "lines=1"):
        assert server.ask("GET", "/page/app.js", Range=wanted)[::2] == server.ask("GET", "/page/app.js")[::2]


def test_slow_requests_block_nobody(server: Server, pose: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for content in slow_starts(pose):
            connection = stack.enter_context(server.connect())
            connection.sendall(content)
        assert server.post(RANK, ("clip", pose))[0] == 200


def test_slow_requests_are_closed(model_folder: Path, pose: bytes) -> None:
    with serving("--model", model_folder, "--max-seconds", 0.5) as hasty, socket.socket() as unread:
        with hasty.connect() as answered:
            answered.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answered.recv(1 << 16)
            idle = hasty.sockets() - 1  # without this connection
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        unread.settimeout(PATIENCE)
        unread.connect(("127.0.0.1", hasty.port))
        unread.sendall(b"GET /page/results.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400)  # 5 MB
        with contextlib.ExitStack() as stack:
            connections = []
            for content in slow_starts(pose):
                connections.append(stack.enter_context(hasty.connect()))
                connections[-1].sendall(content)
            received = [everything(connection) for connection in connections]
        wait_until(lambda: hasty.sockets() == idle, "the connection that is not read is closed")
        assert everything(unread).count(b"HTTP/1.1 200 ") < 400
    assert all(b" 408 " in one and b"was not complete after 0.5 seconds" in one for one in received[:20])
    assert set(received[20:]) == {b""}


def test_clients_that_leave_block_nobody(server: Server, pose: bytes) -> None:
    body = form(*[("clip", pose)] * 8)
    head = head_of(len(body))
    for number in range(20):
        with server.connect() as connection:
            connection.sendall((head + body)[: None if number % 2 else 5000])
    assert server.post(RANK, ("clip", pose))[0] == 200
    wait_until(lambda: server.log.count(f"POST {RANK} 499") >= 10, "those that left are in the log")


def test_too_many_at_once_is_429(server: Server, pose: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(server.connect())
            connection.sendall(head_of(100_000))
        wait_until(lambda: server.post(RANK, ("clip", pose))[0] == 429, "the limit is reached")
        status, headers, content = server.ask("POST", RANK, form(("clip", pose)), Content_Type=TYPE)
        assert status == 429 and headers["retry-after"] == "1"
        assert json.loads(content)["error"] == "the limit of 40 concurrent requests is reached: try again."
        assert server.ask("GET", "/health")[0] == 200
    wait_until(lambda: server.post(RANK, ("clip", pose))[0] == 200, "requests are answered again")


def test_idle_connections_block_nobody(model_folder: Path, pose: bytes) -> None:
    """Those that are idle for longest are closed, requests in work are not, and the log has one line."""
    body = form(("clip", pose), ("prompt", "A"))
    with serving("--model", model_folder, files=256) as small, contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(small.connect())

        working = connect()
        working.sendall(head_of(len(body)) + body[:100])
        answered = connect()
        answered.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in answered.recv(1 << 16)
        idle = [connect() for _ in range(300)]
        assert small.ask("GET", "/health")[0] == 200
        for connection in (answered, idle[0]):
            everything(connection)
        working.sendall(body[100:])
        assert b" 200 " in working.recv(1 << 16)
        status, log = small.stop()
    assert status == 128 + signal.SIGTERM and "Traceback" not in log and "ERROR" not in log
    assert log.count("WARNING") == 1 and "the limit of 64 connections is reached" in log
