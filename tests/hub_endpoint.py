"""A small Hugging Face hub for tests: models with commits, over HTTP on this machine."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TOKEN = "hf_test"


class Hub:
    """The content of the hub. repos: name -> {"private", "commits": [(sha, {path: bytes})]}."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, Any]] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.url = ""

    def commit(self, name: str, change: dict[str, bytes | None]) -> str:
        """Add a commit; None deletes a file."""
        commits = self.repos[name]["commits"]
        files = {**(commits[-1][1] if commits else {}), **change}
        sha = hashlib.sha1(f"{name} {len(commits)}".encode()).hexdigest()
        commits.append((sha, {path: data for path, data in files.items() if data is not None}))
        return sha

    def create(self, name: str, private: bool = False) -> None:
        self.repos[name] = {"private": private, "commits": []}
        self.commit(name, {".gitattributes": b"*.safetensors filter=lfs\n"})

    def files(self, name: str) -> dict[str, bytes]:
        return self.repos[name]["commits"][-1][1]

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repos[name]["commits"]
        return commits[-1] if revision == "main" else next((c for c in commits if c[0] == revision), None)


class Handler(BaseHTTPRequestHandler):
    """The routes that huggingface_hub uses to create, read and write models."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def serve(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        writes = self.command in ("POST", "PUT") and path != "/api/validate-yaml"
        if writes and self.headers.get("Authorization") != f"Bearer {TOKEN}" and self.command == "POST":
            return self.answer({"error": "Invalid username or password."}, 401)
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, path):
                return method(self, body, **found.groupdict())
        return self.answer({"error": f"no route {path}"}, 404)

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def missing(self, code: str, status: int = 404) -> None:
        self.answer({"error": "not found"}, status, X_Error_Code=code)

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        known = name in self.hub.repos
        if not known:
            self.hub.create(name, asked.get("visibility") == "private")
        self.answer({"url": f"{self.hub.url}/{name}"}, 409 if known else 200)

    def valid(self, body: bytes) -> None:
        self.answer({"errors": [], "warnings": []})

    def info(self, body: bytes, name: str, revision: str | None = None) -> None:
        if name not in self.hub.repos:
            return self.missing("RepoNotFound", 401)
        if not (found := self.hub.find(name, revision or "main")):
            return self.missing("RevisionNotFound")
        siblings = [{"rfilename": path} for path in found[1]]
        private = self.hub.repos[name]["private"]
        return self.answer({"id": name, "sha": found[0], "private": private, "siblings": siblings})

    def tree(self, body: bytes, name: str, revision: str) -> None:
        found = self.hub.find(name, revision)
        assert found
        self.answer(
            [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in found[1].items()
            ]
        )

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        files = json.loads(body)["files"]
        self.answer(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for file in files
                ]
            }
        )

    def batch(self, body: bytes, name: str) -> None:
        objects = [
            {**item, "actions": {"upload": {"href": f"{self.hub.url}/large/{item['oid']}"}}}
            for item in json.loads(body)["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects})

    def put(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        self.answer({})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        change: dict[str, bytes | None] = {}
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                change[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                change[value["path"]] = self.hub.large[value["oid"]]
            elif item["key"] == "deletedFile":
                change[value["path"]] = None
        sha = self.hub.commit(name, change)
        self.answer({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha, "success": True})

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        found = self.hub.find(name, revision)
        if not found or path not in found[1]:
            return self.missing("EntryNotFound" if found else "RevisionNotFound")
        data = found[1][path]
        return self.answer(data, X_Repo_Commit=found[0], ETag=f'"{hashlib.sha1(data).hexdigest()}"')


_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
ROUTES = (
    (r"/api/repos/create", Handler.create),
    (r"/api/validate-yaml", Handler.valid),
    (rf"/api/models/{_NAME}", Handler.info),
    (rf"/api/models/{_NAME}/revision/(?P<revision>[\w.-]+)", Handler.info),
    (rf"/api/models/{_NAME}/tree/(?P<revision>[\w.-]+)", Handler.tree),
    (rf"/api/models/{_NAME}/preupload/(?P<revision>[\w.-]+)", Handler.preupload),
    (rf"/api/models/{_NAME}/commit/(?P<revision>[\w.-]+)", Handler.commit),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"/large/(?P<oid>\w+)", Handler.put),
    (rf"/{_NAME}/resolve/(?P<revision>[\w.-]+)/(?P<path>.+)", Handler.resolve),
)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve a new, empty hub."""
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(hub: Hub, cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set huggingface_hub to the hub, as HF_ENDPOINT, HF_HUB_OFFLINE=0, HF_HOME and HF_TOKEN do at import."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
