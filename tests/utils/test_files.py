"""Atomic writes of files and folders."""

import errno
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write, file_in, files_under, remove_leftovers, usual_mode, write_text


def test_atomic_write_errors_name_the_file(tmp_path: Path) -> None:
    """And not the temporary file."""
    folder, long = tmp_path / "answer.json", tmp_path / ("a" * 300)
    folder.mkdir()
    for path in (folder, long):
        with pytest.raises(OSError) as caught:
            write_text(path, "{}")
        assert caught.value.filename == str(path) and str(caught.value).endswith(f": '{path}'")
    assert list(tmp_path.iterdir()) == [folder]


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


def test_atomic_write_of_a_name_of_255_bytes(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 125 + "n.csv")
    with atomic_write(path) as temporary:
        temporary.write_text("a")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(path.name, "a")]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it can only be asked for by setting it")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_atomic_write_asks_for_the_umask_without_setting_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    """Files of other threads would get its permissions, and of two threads, one could restore it."""
    set_umask = os.umask
    before = set_umask(umask)
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("it is set"))
    try:
        write_text(tmp_path / "a", "a")
    finally:
        set_umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_only_temporary_files_of_atomic_write_are_leftovers(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.csv") as temporary:
        (tmp_path / temporary.name.replace("a", "b", 1)).touch()
    foreign = {"a.csv", ".draft.tmp", ".draft.tmp.txt", "c.tmp"}
    for name in foreign:
        (tmp_path / name).touch()
    assert len(list(tmp_path.iterdir())) == 5
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == foreign


@pytest.mark.parametrize("name", ["", ".", "..", "/a", "a/../b", "a//b", "a/", "./a", "a\0", "a\udc80"])
def test_file_in_refuses_names_that_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"expected a path inside it|not UTF-8"):
        file_in(tmp_path, name)
    assert file_in(tmp_path, "a/..b..") == tmp_path / "a" / "..b.."


def test_errors_of_pyav_name_the_file(tmp_path: Path) -> None:
    import av

    with pytest.raises(PermissionError) as raised, atomic_write(tmp_path / "a.mpg") as temporary:
        raise av.error.PermissionError(errno.EACCES, "Permission denied", str(temporary))
    assert raised.value.filename == str(tmp_path / "a.mpg")


def test_files_that_two_threads_write_at_once_have_the_usual_permissions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without /proc, it can only be read by setting it, for all threads."""
    set_umask = os.umask

    def slow(mask: int) -> int:
        before = set_umask(mask)
        time.sleep(0.02)
        return before

    umask = set_umask(0o027)
    try:
        with monkeypatch.context() as patch, ThreadPoolExecutor(2) as threads:
            patch.setattr(os, "umask", slow)
            patch.setattr(Path, "read_bytes", lambda path: b"")  # where there is no /proc
            assert set(threads.map(usual_mode, [0o666] * 4)) == {0o640}
        assert set_umask(0o027) == 0o027
    finally:
        set_umask(umask)
