"""The script that fetches the browser's part of MediaPipe: its checksum."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from mmpt.utils.errors import UserError
from scripts import fetch_front_end as script


def archive(tmp_path: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as members:
        for name in (*script.FILES, "package/other"):
            (tmp_path / "file").write_text(name)
            members.add(tmp_path / "file", name)
    return stream.getvalue()


def test_front_end_package_is_written_only_with_the_right_checksum(tmp_path: Path) -> None:
    content, out = archive(tmp_path), tmp_path / "out"
    with pytest.raises(UserError, match="expected ZJqh0"):
        script.write_package(content, out)
    assert not out.exists()
    script.write_package(content, out, base64.b64encode(hashlib.sha512(content).digest()).decode())
    assert {path.name: path.read_text() for path in out.iterdir()} == {n: m for m, n in script.FILES.items()}


def test_front_end_without_npm_or_with_an_npm_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="npm is not installed"):
        script.fetch_package(tmp_path / "out")
    (tmp_path / "npm").write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(UserError, match=r"npm could not fetch .*: no network"):
        script.fetch_package(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_front_end_replaces_its_own_files_of_another_version_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched = []
    content = archive(tmp_path)
    integrity = base64.b64encode(hashlib.sha512(content).digest()).decode()

    def fetch(out: Path) -> None:
        fetched.append(script.VERSION)
        script.write_package(content, out, integrity)

    monkeypatch.setattr(script, "fetch_package", fetch)
    monkeypatch.setattr(script, "installed_models", lambda: {"pose": b"model"})
    monkeypatch.setattr(script, "build_bundle", lambda models: b"models")
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["fetch_front_end.py", "--out", str(out)])
    script.main()
    script.main()
    assert fetched == ["1.1.0"]
    (out / "vision_bundle.mjs").write_text("cut")
    script.main()
    assert fetched == ["1.1.0"] * 2 and (out / "vision_bundle.mjs").read_text() == "package/vision_bundle.mjs"
    monkeypatch.setattr(script, "VERSION", "1.2.0")
    script.main()
    assert fetched[2:] == ["1.2.0"] and "tasks-vision 1.2.0, from npm" in (out / "LICENSE.txt").read_text()
    other = tmp_path / "project"
    other.mkdir()
    (other / "LICENSE.txt").write_text("mine")
    monkeypatch.setattr("sys.argv", ["fetch_front_end.py", "--out", str(other)])
    with pytest.raises(UserError, match=r"holds 'LICENSE.txt', which does not belong"):
        script.main()
    assert [path.read_text() for path in other.iterdir()] == ["mine"] and len(fetched) == 3
