"""Locks between processes: one holder at a time, released when its process ends."""

import errno
import os
import subprocess
import sys
import threading

import filelock
import pytest

from mmpt.utils.errors import UserError
from mmpt.utils.lock import folder_lock, wait_for_lock


def test_wait_for_lock_has_one_holder_and_removes_the_file(tmp_path):
    path = tmp_path / "new folder" / "x.lock"
    inside, most = [], []

    def work():
        for _ in range(30):
            with wait_for_lock(path) as held:
                assert held
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 120 and max(most) == 1
    assert list(path.parent.iterdir()) == []


def test_wait_for_lock_after_the_file_was_removed(tmp_path):
    """The first holder removes the file; the next holder must lock a new file, which others see."""
    path = tmp_path / "x.lock"
    seen, waiting = [], threading.Event()

    def wait():
        waiting.set()
        with wait_for_lock(path):
            seen.append(path.exists())

    with wait_for_lock(path):
        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait()
        threading.Event().wait(0.1)
        assert not seen
    thread.join()
    assert seen == [True]


def test_wait_for_lock_releases_on_an_error(tmp_path):
    for _ in range(2):
        try:
            with wait_for_lock(tmp_path / "x.lock"):
                raise KeyError
        except KeyError:
            continue
    assert list(tmp_path.iterdir()) == []


def test_wait_for_lock_without_file_locks_warns(tmp_path, monkeypatch, caplog):
    def refuse(self):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    with wait_for_lock(tmp_path / "x.lock") as held:
        assert not held
    assert "has no locks (No locks available)" in caplog.text


def test_locks_report_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError), wait_for_lock(tmp_path / "file" / "x.lock"):
        pass
    with pytest.raises(OSError), folder_lock(tmp_path / "file", "a test"):
        pass
    (tmp_path / "folder" / ".lock").mkdir(parents=True)
    with pytest.raises(UserError, match="was not written by"), folder_lock(tmp_path / "folder", "a test"):
        pass


def test_folder_lock_refuses_a_second_writer_and_names_the_process(tmp_path):
    refused = pytest.raises(UserError, match=rf"in use by another run \(process {os.getpid()}\)")
    with folder_lock(tmp_path, "another run"), refused, folder_lock(tmp_path, "another run"):
        pass
    with folder_lock(tmp_path, "another run"):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("kind", ["text", "link", "pipe"])
def test_folder_lock_overwrites_no_foreign_file(tmp_path, kind):
    (tmp_path / "mine").write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    match kind:
        case "text":
            (folder / ".lock").write_text("mine")
        case "link":
            (folder / ".lock").symlink_to(tmp_path / "mine")
        case "pipe":
            os.mkfifo(folder / ".lock")
    with pytest.raises(UserError, match="was not written by signclip"), folder_lock(folder, "another run"):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("there", [True, False])
def test_a_refused_run_leaves_no_lock_and_no_folder(tmp_path, there):
    folder = tmp_path / "out"
    if there:
        folder.mkdir()
    with pytest.raises(UserError, match="refused"), folder_lock(folder, "another run"):
        raise UserError("refused")
    assert list(tmp_path.rglob("*")) == ([folder] if there else [])


HOLD = """
import os, sys, time
from mmpt.utils.lock import folder_lock
with folder_lock(sys.argv[1], "another run"):
    if os.fork() == 0:  # such as a DataLoader worker, which ends before its parent
        sys.exit()
    os.wait()
    print("held", flush=True)
    time.sleep(60)
"""


def test_folder_lock_ends_with_its_process_and_not_with_a_forked_child(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"process {holder.pid}"), folder_lock(tmp_path, "another run"):
        pass
    holder.kill()
    holder.wait()
    with folder_lock(tmp_path, "another run"):
        pass
