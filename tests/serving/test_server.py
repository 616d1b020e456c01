"""Start, stop, token, other origins and headers of a real server."""

import asyncio
import http.client
import json
import logging
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from mmpt.cli.serve import _results, main
from mmpt.client import Client
from mmpt.utils.errors import UserError
from tests.commands import run
from tests.serving.conftest import PROMPTS
from tests.serving.servers import TYPE, Server, form, serving
from tests.waiting import PATIENCE, wait_until

ORIGIN = "https://page.example"


@pytest.fixture(scope="module")
def guarded(model_folder: Path) -> Iterator[Server]:
    """A server with a token, which another page may call."""
    options = ["--model", model_folder, "--cors", ORIGIN, "--host", "0.0.0.0", "--max-seconds", 5]
    with serving(*options, token="secret") as running:
        yield running


def test_every_answer_has_the_headers(server: Server) -> None:
    for method, path in (
        ("GET", "/health"),
        ("GET", "/nothing"),
        ("POST", "/api/rank"),
        ("GET", "/page/none.js"),
    ):
        headers = server.ask(method, path)[1]
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
        assert policy["connect-src"] == "'self' blob: data:"
        assert policy["script-src"] == "'self' 'wasm-unsafe-eval'" and policy["style-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert "camera=(self)" in headers["permissions-policy"] and headers["cache-control"] == "no-cache"
        assert "server" not in headers and "access-control-allow-origin" not in headers


def test_other_origins_only_with_cors(server: Server, guarded: Server) -> None:
    assert "access-control-allow-origin" not in server.ask("GET", "/health", Origin=ORIGIN)[1]
    for headers in ({}, {"Authorization": "Bearer secret"}):
        status, answered, _ = guarded.ask("GET", "/model", Origin=ORIGIN, **headers)
        assert (status, answered["access-control-allow-origin"]) == (200 if headers else 401, ORIGIN)
    assert (
        "access-control-allow-origin" not in guarded.ask("GET", "/health", Origin="https://evil.example")[1]
    )
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
    status, answered, _ = guarded.ask("OPTIONS", "/api/rank", Origin=ORIGIN, **asked)
    assert status == 200 and answered["access-control-allow-origin"] == ORIGIN
    assert "Authorization" in answered["access-control-allow-headers"]
    assert guarded.ask("OPTIONS", "/api/rank", Origin="https://evil.example", **asked)[0] == 400


def test_token(guarded: Server) -> None:
    assert guarded.json("GET", "/health")[1]["token"] and guarded.ask("GET", "/openapi.json")[0] == 200
    for path in ("/model", "/api/clips", "/api/results", "/api/data", "/api/nothing"):
        for given in (
            {},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer secrets"},
            {"Authorization": "secret"},
        ):
            status, headers, content = guarded.ask("GET", path, **given)
            assert status == 401 and headers["www-authenticate"] == "Bearer" and "token" in str(content)
    assert guarded.post("/api/rank", ("prompt", "A"))[0] == 401
    assert guarded.post("/api/rank", ("prompt", "A"), Authorization="Bearer secret")[0] == 400
    assert Client(guarded.address, "secret").model()["token"]
    with pytest.raises(UserError, match=r"needs the header Authorization.*\(status 401\)"):
        Client(guarded.address, "wrong").model()


def test_remote_servers_may_have_any_name_and_warn_without_a_token(
    guarded: Server, model_folder: Path
) -> None:
    assert guarded.ask("GET", "/health", Host="signs.example")[0] == 200
    assert "everyone who reaches" not in guarded.log
    with serving("--model", model_folder, "--host", "0.0.0.0") as running:
        assert "--host 0.0.0.0: everyone who reaches this address can use the model" in running.log


def refuses_connections(server: Server) -> bool:
    """Whether it no longer listens on its port."""
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_finishes_what_is_in_work(number: int, model_folder: Path, poses: dict[str, Path]) -> None:
    """A request whose body is complete after the signal is answered, new ones are not."""
    pose = next(iter(poses.values())).read_bytes()
    with serving("--model", model_folder, "--max-seconds", 60) as running:
        body = form(("clip", pose), *[("prompt", prompt) for prompt in PROMPTS])
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
        connection.putrequest("POST", "/api/rank")
        connection.putheader("Content-Type", TYPE)
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Expect", "100-continue")  # asked for when the body is read
        connection.endheaders()
        assert connection.sock.recv(1 << 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body[:1000])
        os.kill(running.pid, number)
        wait_until(lambda: refuses_connections(running), "new connections are refused")
        connection.send(body[1000:])
        answer = connection.getresponse()
        assert answer.status == 200 and len(json.load(answer)["clips"][0]["ranked"]) == len(PROMPTS)
        ended = running.process.end()
    assert ended.returncode == 128 + number and "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nothing"], "nothing"),
        (["--max-frames", "0"], "--max-frames 0: expected a number above 0"),
        (["--index", "no_index"], "there is no index no_index"),
        (["--results", "."], "no results.json in it or below"),
        (["--data", "."], "there is no check.md: write it with `signclip check`"),
        (["--clips", "none.csv"], "there is no table none.csv"),
        (["--token", "two words"], "expected printable ASCII without spaces, got another one"),
        (["--token", "\u00e9"], "--token or SIGNCLIP_TOKEN: expected printable ASCII without spaces"),
        (["--port", "99999"], "--port 99999: expected 0 to 65535"),
        (["--host", "203.0.113.7"], "cannot listen on 203.0.113.7"),
    ],
)
def test_wrong_options_are_one_line(
    options: list[str],
    message: str,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--model", str(model_folder), "--port", "0", *options]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_log_levels_of_the_process_are_restored(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = {"uvicorn.error": "WARNING", "python_multipart": "ERROR", "mmpt.embedding.embedder": "ERROR"}
    loggers = [logging.getLogger(name) for name in levels]
    before = [logger.level for logger in loggers]
    while_it_runs: list[str] = []

    def run(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        while_it_runs.extend(logging.getLevelName(logger.level) for logger in loggers)
        sockets[0].close()

    monkeypatch.setattr(uvicorn.Server, "run", run)
    assert main(["--model", str(model_folder), "--port", "0"]) == 0
    assert while_it_runs == [*levels.values()]
    assert [logger.level for logger in loggers] == before


def test_an_empty_token_is_refused(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIGNCLIP_TOKEN", "")
    assert main(["--model", str(model_folder), "--port", "0"]) == 2
    assert "got an empty one" in capsys.readouterr().err.splitlines()[-1]


def test_a_port_that_is_taken_is_one_line(server: Server, model_folder: Path) -> None:
    ended = run("serve", "--model", model_folder, "--port", server.port)
    assert ended.returncode == 2 and f"port {server.port} (Address already in use)" in ended.stderr


def test_memory_is_flat_with_ever_new_prompts(server: Server, poses: dict[str, Path]) -> None:
    client, pose = Client(server.address), next(iter(poses.values()))
    for number in range(40):
        client.rank([pose], [f"prompt {number} {i}" for i in range(20)])
    before = server.memory()
    for number in range(40, 80):
        client.rank([pose], [f"prompt {number} {i}" for i in range(20)])
    assert server.memory() - before < 16 << 20


def test_results_are_named_by_their_run(tmp_path: Path) -> None:
    for name in "ab":
        for folder, record in (("eval", "results.json"), ("protocols", "protocols.json")):
            (tmp_path / name / folder).mkdir(parents=True)
            (tmp_path / name / folder / record).write_text("{}")
    assert list(_results([tmp_path])) == ["a", "a-2", "b", "b-2"]
    (tmp_path / "z" / "a").mkdir(parents=True)
    (tmp_path / "z" / "a" / "results.json").write_text("{}")
    found = _results([tmp_path / "b", tmp_path / "a", tmp_path / "z", tmp_path / "a"])
    assert list(found) == ["b", "b-2", "a", "a-2", "a-3", "a-4", "a-5"]
    shutil.move(tmp_path / "z" / "a", tmp_path / "a-2")
    assert list(_results([tmp_path / "a-2", tmp_path / "a"])) == ["a-2", "a", "a-3"]


def test_serve_inside_an_event_loop_is_refused(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A notebook runs one."""

    async def cell() -> int:
        return main(["--model", str(model_folder), "--port", "0"])

    assert asyncio.run(cell()) == 2
    assert capsys.readouterr().err.startswith("error: an event loop runs here, as in a notebook")
