"""Outputs: only files that the command wrote itself are replaced, and nothing temporary is left."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from mmpt.utils.errors import UserError
from mmpt.utils.outputs import OutputKind, check_files, replace_output

ALONE = OutputKind("a thing", "test-thing", "thing.json", ("data.bin", "parts/*"), alone=True)
SHARED = OutputKind("a page", "test-page", "page.json", ("page.md", "*.png"), old_keys=("page",))


def write(folder: Path, kind: OutputKind = ALONE, names: tuple[str, ...] = (), **options: Any) -> None:
    with replace_output(folder, kind, **options) as fresh:
        for name in names or ("data.bin", "parts/a"):
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_text(f"{name} {options.get('of')}")


def tree(folder: Path) -> dict[str, str]:
    """All files and empty folders below `folder`, with their content."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
        if path.is_file() or path.is_symlink() or not any(path.iterdir())
    }


def test_an_output_lists_its_files(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write(tmp_path / "deep" / "out", of={"model": "1"})
    finally:
        os.umask(before)
    folder = tmp_path / "deep" / "out"
    record = json.loads((folder / "thing.json").read_text())
    assert (record["format"], record["of"]) == ("test-thing", {"model": "1"})
    assert sorted(record["files"]) == ["data.bin", "parts/a"]
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "data.bin").stat().st_mode & 0o777 == 0o644


def test_the_same_output_is_replaced_and_stale_files_are_deleted(tmp_path: Path) -> None:
    write(tmp_path, of={"model": "1"})
    write(tmp_path, names=("data.bin",), of={"model": "1"})
    assert sorted(tree(tmp_path)) == ["data.bin", "thing.json"]
    check_files(tmp_path, ALONE)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_record_with_a_name_that_no_file_has(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    record = json.loads((tmp_path / "thing.json").read_text())
    record["files"][name] = "0" * 64
    (tmp_path / "thing.json").write_text(json.dumps(record))
    shown = re.escape(repr(name))
    for use in (lambda: check_files(tmp_path, ALONE), lambda: write(tmp_path)):
        with pytest.raises(UserError, match=rf"thing\.json lists {shown}, which is no name of a file"):
            use()


@pytest.mark.parametrize("foreign", ["notes.txt", "sub/notes.txt", "empty", ".hidden"])
@pytest.mark.parametrize("first", [True, False], ids=["with our files", "alone"])
def test_foreign_entries_stay(tmp_path: Path, foreign: str, first: bool) -> None:
    if first:
        write(tmp_path)
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / "empty").mkdir() if foreign == "empty" else (tmp_path / foreign).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=f"holds '{foreign}', which does not belong to a thing"):
        write(tmp_path)
    assert tree(tmp_path) == before
    write(tmp_path, names=("data.bin",), force=True)
    assert sorted(tree(tmp_path)) == sorted({foreign, "data.bin", "thing.json"})


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["data.bin", "thing.json", "parts", "data.bin/mine"])
def test_a_foreign_file_of_a_telling_name_is_never_replaced(tmp_path: Path, name: str, force: bool) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"mine": true}')
    with pytest.raises(UserError, match=f"holds '{name}'"):
        write(tmp_path, force=force)
    assert tree(tmp_path) == {name: '{"mine": true}'}


def test_a_record_that_claims_foreign_files_deletes_none(tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    files = {"mine.txt": "0" * 64, "../outside.txt": "0" * 64, "/etc/passwd": "0" * 64}
    (folder / "thing.json").write_text(json.dumps({"format": "test-thing", "files": files}))
    with pytest.raises(UserError, match=r"mine\.txt was changed"):
        write(folder)
    write(folder, force=True)
    assert (folder / "mine.txt").read_text() == (tmp_path / "outside.txt").read_text() == "mine"


def test_another_model_or_a_changed_file_needs_force(tmp_path: Path) -> None:
    write(tmp_path, of={"model": "1"})
    with pytest.raises(UserError, match=r"a thing of something else \(model: 1 there, 2 now\).*--force"):
        write(tmp_path, of={"model": "2"})
    with pytest.raises(UserError, match=r"\(table: none there, t now, model: 1 there, none now\)"):
        write(tmp_path, of={"table": "t", "model": None})
    (tmp_path / "data.bin").write_text("edited")
    with pytest.raises(UserError, match=r"data\.bin was changed after thing\.json was written"):
        check_files(tmp_path, ALONE)
    with pytest.raises(UserError, match=r"data\.bin was changed after it was written.*--force"):
        write(tmp_path, of={"model": "1"})
    write(tmp_path, of={"model": "2"}, force=True)
    assert (tmp_path / "data.bin").read_text() == "data.bin {'model': '2'}"


def test_a_shared_folder_keeps_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, SHARED, ("page.md", "a.png"))
    write(tmp_path, SHARED, ("page.md",))
    assert sorted(tree(tmp_path)) == ["notes.txt", "page.json", "page.md"]
    (tmp_path / "b.png").write_text("mine")
    with pytest.raises(UserError, match=r"holds 'b\.png'"):
        write(tmp_path, SHARED, ("page.md",))


def test_an_output_of_an_older_version_needs_force(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("old")
    (tmp_path / "page.json").write_text('{"page": 1}')
    check_files(tmp_path, SHARED)
    with pytest.raises(UserError, match="an older version, without a list of its files"):
        write(tmp_path, SHARED, ("a.png",))
    write(tmp_path, SHARED, ("a.png",), force=True)
    assert sorted(tree(tmp_path)) == ["a.png", "page.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_the_folder_is_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    for folder in (tmp_path / "new", tmp_path / "old"):
        if folder.name == "old":
            write(folder)
        before = tree(tmp_path)
        with pytest.raises(error), replace_output(folder, ALONE) as fresh:
            (fresh / "data.bin").write_text("half")
            raise error
        assert tree(tmp_path) == before


def test_killed_while_files_are_moved_it_can_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, of={"model": "1"})
    moved = []

    def replace(source: Path, target: Path) -> None:
        if len(moved) == 1:
            raise KeyboardInterrupt
        moved.append(shutil.move(source, target))

    with monkeypatch.context() as patch:
        patch.setattr("mmpt.utils.outputs.os.replace", replace)
        patch.setattr("mmpt.utils.outputs.write_json", _write_json)
        with contextlib.suppress(KeyboardInterrupt):
            write(tmp_path, of={"model": "2"}, force=True)
    assert not (tmp_path / "thing.json").exists(), "no record of files that do not belong together"
    write(tmp_path, of={"model": "2"})
    assert sorted(tree(tmp_path)) == ["data.bin", "parts/a", "thing.json"]
    check_files(tmp_path, ALONE)


def test_killed_while_the_journal_is_written_it_can_be_started_again(tmp_path: Path) -> None:
    write(tmp_path, of={"model": "1"})
    (tmp_path / "..thing.json.abcd1234.tmp.journal").touch()
    write(tmp_path, of={"model": "1"})
    assert sorted(tree(tmp_path)) == ["data.bin", "parts/a", "thing.json"]


def test_two_processes_replace_an_output_one_after_the_other(tmp_path: Path) -> None:
    """Else the files of one would be mixed with those of the other."""
    with replace_output(tmp_path / "out", ALONE) as fresh:  # the folder appears while the block runs
        (fresh / "data.bin").write_text("mine")
        write(tmp_path / "out")
    check_files(tmp_path / "out", ALONE)
    assert sorted(tree(tmp_path)) == ["out/data.bin", "out/thing.json"]
    descriptor = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    waiting = threading.Thread(target=write, args=(tmp_path / "out",))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive() and not (tmp_path / "out" / "parts").exists()
    os.close(descriptor)
    waiting.join()
    assert (tmp_path / "out" / "parts").is_dir()


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def test_leftovers_are_removed_but_not_those_of_a_running_process(tmp_path: Path) -> None:
    (tmp_path / ".out.mmpt-abcd1234.tmp").mkdir()
    (tmp_path / ".out.backup.tmp").mkdir()
    with replace_output(tmp_path / "out", ALONE) as running:
        write(tmp_path / "out")
        assert running.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.backup.tmp", "out"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_as_folder_works(tmp_path: Path, there: bool) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    if there:
        real.mkdir()
    link.symlink_to(real)
    for _ in range(2):
        write(link)
    assert link.is_symlink() and sorted(tree(real)) == ["data.bin", "parts/a", "thing.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_links_inside_are_foreign(tmp_path: Path) -> None:
    write(tmp_path / "out")
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "out" / "parts").rename(elsewhere)
    (tmp_path / "out" / "parts").symlink_to(elsewhere)
    with pytest.raises(UserError, match="holds 'parts'"):
        write(tmp_path / "out", force=True)
    assert (elsewhere / "a").read_text() == "parts/a None"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_mount_point_works(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        for _ in range(2):
            write(folder)
        assert sorted(tree(folder)) == ["data.bin", "parts/a", "thing.json"]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_file_or_a_looping_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("file", "loop"):
        with pytest.raises(UserError):
            write(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
