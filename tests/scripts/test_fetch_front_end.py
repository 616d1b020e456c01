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
