"""Atomic writes of files and folders."""

import errno
import os
from pathlib import Path

import pytest

from mmpt.utils.files import atomic_folder, files_under, write_text


def test_atomic_write_errors_name_the_file(tmp_path: Path) -> None:
    """And not the temporary file."""
    folder, long = tmp_path / "answer.json", tmp_path / ("a" * 300)
    folder.mkdir()
    for path in (folder, long):
        with pytest.raises(OSError) as caught:
            write_text(path, "{}")
        assert caught.value.filename == str(path) and str(caught.value).endswith(f": '{path}'")
    assert list(tmp_path.iterdir()) == [folder]


def test_atomic_folder_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "some" / "folder"
    with atomic_folder(target) as fresh:
        (fresh / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    with pytest.raises(RuntimeError), atomic_folder(target) as fresh:
        (fresh / "a").write_text("2")
        raise RuntimeError
    assert (target / "a").read_text() == "1"
    with atomic_folder(target) as fresh:
        (fresh / "b").write_text("3")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in target.parent.iterdir()] == ["folder"], "nothing is left beside it"
    assert target.stat().st_mode & 0o777 == (target / "b").stat().st_mode & 0o777 | 0o111


def test_atomic_folder_permissions(tmp_path: Path) -> None:
    """Whatever wrote them: a model is to be read by colleagues."""
    before = os.umask(0o022)
    try:
        with atomic_folder(tmp_path / "model") as fresh:
            (fresh / "weights").touch(mode=0o600)
        assert (tmp_path / "model" / "weights").stat().st_mode & 0o777 == 0o644
        assert (tmp_path / "model").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


def test_files_under_warns_about_unreadable_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its clips would be missing, and nobody would know. (Who runs the tests may be allowed everything.)"""
    (tmp_path / "a").touch()
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(folder: str) -> object:
        if Path(folder).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(files_under(tmp_path, tmp_path / "out")) == [tmp_path / "a"]
    assert f"{tmp_path / 'closed'} cannot be read (Permission denied)" in caplog.text
