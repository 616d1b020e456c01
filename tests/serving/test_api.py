"""Each endpoint of a real server against the library's own answer."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from starlette.requests import Request

from mmpt.cli import serve
from mmpt.client import Client
from mmpt.embedding.embedder import SignCLIP
from mmpt.pose.reader import parse_pose
from mmpt.search import Index
from mmpt.serving import Limits
from mmpt.serving.clips import Clips
from mmpt.serving.forms import read_form
from mmpt.serving.openapi import ENDPOINTS
from mmpt.utils.errors import UserError
from tests.extractors.videos import write_video
from tests.serving.conftest import PROMPTS
from tests.serving.servers import TYPE, Server, form, serving


def close(found, wanted) -> None:
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_health_and_model(server: Server, model: SignCLIP, index: Index) -> None:
    assert server.json("GET", "/health")[1] == {"status": "ok", "version": "0.2.0", "token": False}
    status, found = server.json("GET", "/model")
    assert status == 200 and found["fingerprint"] == model.fingerprint and found["dim"] == model.dim
    assert found["prompts"] == PROMPTS and found["index"]["clips"] == len(index)
    assert found["reads"] == {"clip": ".pose", "signwriting": False, "hands": ["RIGHT_HAND_LANDMARKS"]}
    assert found["limits"]["frames"] == 500 and not found["results"] and found["data"]


def test_embed(server: Server, model: SignCLIP, poses: dict[str, Path]) -> None:
    files = list(poses.values())[:3]
    found = Client(server.address).embed(files, PROMPTS[:2])
    close([clip["embedding"] for clip in found["clips"]], model.embed_pose(files))
    close([prompt["embedding"] for prompt in found["prompts"]], model.embed_text(PROMPTS[:2]))
    assert [clip["name"] for clip in found["clips"]] == [file.name for file in files]
    assert found["model"] == model.fingerprint and found["warnings"] == []


def test_prompts_are_utf_8(server: Server) -> None:
    texts = ["手语", "café", "a \ufffd b", "1 + 1 = 100%"]
    fields = [("prompt", text) for text in texts]
    coded = "application/x-www-form-urlencoded"
    raw = "&".join(f"prompt={text.replace('+', '%2B')}" for text in texts).encode()  # as curl -d
    for kind, body in ((TYPE, form(*fields)), (coded, urlencode(fields)), (coded, raw)):
        status, found = server.json("POST", "/api/embed", body, Content_Type=kind)
        assert status == 200 and [prompt["prompt"] for prompt in found["prompts"]] == texts


@pytest.mark.parametrize(
    "body, error",
    [
        ("手语".encode("gbk"), r"prompt: got b'\xca\xd6\xd3\xef', which is not UTF-8: send texts in UTF-8."),
        (None, "the form cannot be read (it ends before its last boundary: send it again)."),
    ],
)
def test_what_cannot_be_read_is_named(server: Server, body: bytes | None, error: str) -> None:
    whole = form(("prompt", "hello"), ("prompt", "B"))
    sent = whole[:-9] if body is None else whole.replace(b"B", body)
    assert server.json("POST", "/api/embed", sent, Content_Type=TYPE) == (400, {"error": error})


def test_uploads_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": form(("clip", bytes(3 << 20)), ("prompt", "A"))}

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    request = Request({"type": "http", "headers": [(b"content-type", TYPE.encode())]}, receive)
    with ThreadPoolExecutor(1) as thread:  # the browser tests leave a loop running in this one
        reading = thread.submit(asyncio.run, read_form(request, ["clip"], ["prompt"], Limits()))
        found = reading.result()
    assert found.files["clip"][0].content == bytes(3 << 20) and found.texts == {"prompt": ["A"]}


def test_embed_mirrors(server: Server, model: SignCLIP, poses: dict[str, Path]) -> None:
    file = next(iter(poses.values()))
    (found,) = Client(server.address).embed([file], mirror=True)["clips"]
    close(found["embedding"], model.embed_pose([file], mirror=True)[0])


def test_score(server: Server, model: SignCLIP, poses: dict[str, Path]) -> None:
    files = list(poses.values())[:5]
    close(Client(server.address).score(files, PROMPTS)["scores"], model.score(files, PROMPTS))


def test_rank_with_default_and_own_prompts(server: Server, model: SignCLIP, poses: dict[str, Path]) -> None:
    files = list(poses.values())[:2]
    wanted = model.score(files, PROMPTS)
    for clip, scores in zip(Client(server.address).rank(files, top=4)["clips"], wanted.T):
        order = np.argsort(-scores, kind="stable")[:4]
        assert [row["prompt"] for row in clip["ranked"]] == [PROMPTS[i] for i in order]
        close([row["score"] for row in clip["ranked"]], scores[order])
    one = Client(server.address).rank(files[0], "one", top=0)["clips"]
    assert one == Client(server.address).rank(files[:1], ["one"], top=0)["clips"]
    assert [ranked["prompt"] for ranked in one[0]["ranked"]] == ["one"]
    (clip,) = Client(server.address).rank(files[:1], ["one", "another"], top=0)["clips"]
    assert {row["prompt"] for row in clip["ranked"]} == {"one", "another"}


def test_search_by_prompt_and_clip(
    server: Server, model: SignCLIP, index: Index, poses: dict[str, Path]
) -> None:
    name, file = list(poses.items())[7]
    client = Client(server.address)
    for found, query in (
        (client.search(PROMPTS[0], k=5), model.embed_text(PROMPTS[:1])),
        (client.search(clip=file, k=5), model.embed_pose([file])),
    ):
        hits = index.search(query, 5)
        close([hit["score"] for hit in found["hits"]], hits.scores[0])
        assert [hit["id"] for hit in found["hits"]] == [index.name(row) for row in hits.rows[0]]
        assert all(hit["pose"] for hit in found["hits"])
    assert found["hits"][0]["id"] == name
    same = server.post("/api/search", ("text", PROMPTS[0]), ("k", "5"))[1]
    assert same == client.search(PROMPTS[0], k=5)


def test_rows_of_the_index_and_data(server: Server, index: Index) -> None:
    found = server.json("GET", "/api/clips?start=20&count=9")[1]
    assert found["count"] == 24 and [clip["row"] for clip in found["clips"]] == [20, 21, 22, 23]
    assert [clip["id"] for clip in found["clips"]] == [index.name(row) for row in range(20, 24)]
    assert server.json("GET", "/api/data")[1] == {"markdown": "# a check\n", "pictures": ["lengths.png"]}
    status, headers, content = server.ask("GET", "/api/data/lengths.png")
    assert (status, headers["content-type"], content) == (200, "image/png", b"\x89PNG")


def test_requests_at_once_have_the_answers_of_each_alone(server: Server, poses: dict[str, Path]) -> None:
    client = Client(server.address)
    files = [*poses.values(), b"no pose"] * 2

    def ask(number: int) -> object:
        try:
            return client.rank([files[number]], PROMPTS[: 1 + number % 6])
        except UserError as error:
            return str(error)

    alone = [ask(number) for number in range(len(files))]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(ask, range(len(files))))
    for one, other in zip(alone, together):
        if isinstance(one, str):
            assert one == other and "number 0: the header cannot be parsed" in one
        else:
            scores = [
                [row["score"] for row in sorted(found["clips"][0]["ranked"], key=str)]
                for found in (one, other)
            ]
            close(*scores)


def test_warnings_are_in_the_answer_and_not_in_the_log(
    server: Server, model: SignCLIP, poses: dict[str, Path]
) -> None:
    found = Client(server.address).embed(prompts=["Fingerspell \u4e00\u4e01 the secret letter A " * 5])
    assert "1 of 1 prompts have more than" in found["warnings"][0]
    assert "secret" not in server.log and "POST /api/embed 200" in server.log


def test_openapi_lists_what_exists(server: Server) -> None:
    found = server.json("GET", "/openapi.json")[1]
    assert {(method.upper(), path) for path, methods in found["paths"].items() for method in methods} == {
        (endpoint.method, endpoint.path) for endpoint in ENDPOINTS
    }
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            status, answer = server.json(method.upper(), path.replace("{row}", "0").replace("{name}", "x"))
            assert status == 200 or answer["error"], (path, method)
            assert status not in (405, 500) and f"there is no {path}" not in str(answer)
            fields = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data", {})
            for field in fields.get("schema", {}).get("properties", {}):  # known: another error follows
                wrong = server.post(path, (field, "?" if field not in ("clip", "video") else b"?"))[1]
                assert "there is no field" not in wrong.get("error", "")


def test_a_video_is_not_called_a_broken_pose(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(99))
    with pytest.raises(UserError, match=r"x\.mp4: it is a video, and a pose or features are expected"):
        Client(server.address).rank([tmp_path / "x.mp4"])


@pytest.mark.parametrize("clip", ["no such file.pose", b""])
def test_client_errors(server: Server, clip: object) -> None:
    with pytest.raises(UserError, match=r"expected the file of a clip|the header"):
        Client(server.address).rank([clip])
    with pytest.raises(UserError, match=r"no answer .*is `signclip serve` running"):
        Client("http://127.0.0.1:9", timeout=2).model()


def test_client_sends_what_it_was_given_or_refuses(server: Server, poses: dict[str, Path]) -> None:
    client, file = Client(server.address), next(iter(poses.values()))
    wanted = client.rank([file], ["one", "two"])
    assert client.rank(iter([str(file)]), iter(["one", "two"])) == wanted  # type: ignore[arg-type]
    for prompts, words in (
        ([None], "prompts must be texts, got None"),  # not the prompt "None"
        ([3], "prompts must be texts, got 3"),
        (["\udc80"], "not valid Unicode"),
    ):
        with pytest.raises(UserError, match=words):
            client.rank([file], prompts)  # type: ignore[arg-type]
    for clips in ([3], None, [None]):
        with pytest.raises(UserError, match="clips must be paths or bytes"):
            client.rank(clips, ["one"])  # type: ignore[arg-type]
    for address in ("127.0.0.1:8000", "file:///etc/passwd"):
        with pytest.raises(UserError, match="expected the address of a server"):
            Client(address)
    with pytest.raises(UserError, match="no answer"):
        Client(f"{server.address}/a b").model()


def test_answers_are_json_of_numbers(server: Server, poses: dict[str, Path]) -> None:
    content = server.ask("GET", "/api/clips")[2]
    json.loads(content, parse_constant=lambda name: pytest.fail(name))


def test_extract_needs_the_option(server: Server) -> None:
    status, found = server.post("/api/extract", ("video", b"x"))
    assert status == 404 and "start it with --allow-video" in found["error"]


@pytest.mark.slow
def test_extract_with_the_option(model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    video = tmp_path / "a.mp4"
    write_video(video, frames=5)
    with serving("--model", model_folder, "--allow-video") as running:
        status, headers, pose = running.ask(
            "POST", "/api/extract", form(("video", video.read_bytes())), Content_Type=TYPE
        )
        assert (status, headers["content-type"]) == (200, "application/octet-stream"), pose
        assert len(parse_pose(pose)) == 5
        status, found = running.post("/api/extract", ("video", b"no video"))
        assert status == 400 and "cannot be read as a video" in found["error"]


def test_the_log_counts_the_clips_with_poses(
    server: Server, index: Index, small_table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "poses found for 24 of 24 clips of the index\n" in server.log
    caplog.set_level("INFO")
    serve._log_poses(index, Clips())
    assert "poses found for 0 of 24 clips of the index: if they are parts of recordings, give" in caplog.text
