import json
import logging
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from mmpt.extractors import get_extractor
from mmpt.extractors.base import Extractor, FileReader, NetworkRunner, Outcome, StreamReader
from mmpt.extractors.manifest import Manifest, read_manifest, trial_weights
from mmpt.extractors.npy import NpyExtractor
from mmpt.extractors.runner import RunOptions, extract_folder
from mmpt.utils.errors import UserError
from mmpt.utils.lock import folder_lock


def save(path: Path, frames: int = 3, dim: int = 4, value: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.full((frames, dim), value, np.float32))
    return path


def extract(folder: Path, out: Path, extractor: Extractor | None = None, **options):
    options = {"workers": 0, "show_progress": False} | options
    return extract_folder(extractor or NpyExtractor(4), folder, out, RunOptions(**options))


def content(out: Path) -> dict[str, bytes]:
    """Everything in the folder except the lock."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def folders(tmp_path):
    save(tmp_path / "in" / "a.npy", 3)
    save(tmp_path / "in" / "deep" / "b.npy", 5, value=2)
    save(tmp_path / "in" / "deep" / "er" / "手話 ü.npy", 1)
    (tmp_path / "in" / "notes.txt").write_text("not a source")
    return tmp_path / "in", tmp_path / "out"


def test_extract_writes_files_and_manifest(folders):
    folder, out = folders
    summary = extract(folder, out)
    assert (summary.made, summary.kept, summary.failed) == (3, 0, {})
    assert np.load(out / "deep" / "b.npy").tolist() == [[2.0] * 4] * 5
    manifest = read_manifest(out)
    assert list(manifest["files"]) == ["a.npy", "deep/b.npy", "deep/er/手話 ü.npy"]
    record = manifest["files"]["deep/b.npy"]
    assert record["facts"] == {"tokens": 5, "dim": 4} and record["status"] == "done"
    assert record["source"]["size"] == (folder / "deep" / "b.npy").stat().st_size
    assert record["result"]["size"] == (out / "deep" / "b.npy").stat().st_size
    assert manifest["runs"][record["run"]]["options"]["dim"] == 4
    assert manifest["runs"][record["run"]]["tools"]["numpy"] == np.__version__
    assert sorted(content(out)) == ["a.npy", "deep/b.npy", "deep/er/手話 ü.npy", "manifest.json"]


def test_extract_skips_finished_files(folders):
    folder, out = folders
    extract(folder, out)
    before, times = content(out), {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}
    summary = extract(folder, out)
    assert (summary.made, summary.kept) == (0, 3)
    assert content(out) == before
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}


def test_extract_recomputes_outdated_files(folders):
    folder, out = folders
    extract(folder, out)
    save(folder / "new.npy")
    save(folder / "a.npy", 9)
    (out / "deep" / "b.npy").unlink()
    summary = extract(folder, out)
    assert (summary.made, summary.kept) == (3, 1)
    assert len(np.load(out / "a.npy")) == 9 and (out / "deep" / "b.npy").exists()


def test_results_of_other_options_are_replaced_only_on_request(folders):
    folder, out = folders
    extract(folder, out)
    before, other = content(out), NpyExtractor(4, "float16")
    (out / "a.npy").unlink()
    save(folder / "new.npy")
    with pytest.raises(UserError, match=r"b\.npy was .* \(dtype: float32 there, float16 now\).* or --again"):
        extract(folder, out, other)
    assert content(out) == {name: data for name, data in before.items() if name != "a.npy"}
    (folder / "new.npy").unlink()
    summary = extract(folder, out, other, again=True)
    assert (summary.made, summary.kept) == (3, 0)
    assert np.load(out / "a.npy").dtype == np.float16
    assert len(read_manifest(out)["runs"]) == 1, "options that no file has any more are not kept on record"


def test_extract_skips_a_touched_but_equal_source(folders):
    folder, out = folders
    extract(folder, out)
    os.utime(folder / "a.npy", ns=(1, 1))
    assert extract(folder, out).made == 0
    save(folder / "a.npy", 3, value=7)  # as long as before
    os.utime(folder / "a.npy", ns=(1, 1))
    assert extract(folder, out).made == 1 and np.load(out / "a.npy")[0, 0] == 7


def test_extract_verify_finds_a_changed_result(folders):
    folder, out = folders
    extract(folder, out)
    save(out / "a.npy", 3, value=99)
    assert extract(folder, out).made == 0
    assert extract(folder, out, verify=True).made == 1 and np.load(out / "a.npy")[0, 0] == 1
    assert extract(folder, out, again=True).made == 3


@pytest.mark.parametrize("saved", [True, False], ids=["interrupted", "killed"])
@pytest.mark.parametrize("same_command", [True, False])
def test_resume_extract_again(folders, monkeypatch, same_command, saved):
    folder, out = folders
    extract(folder, out)
    before = content(out)
    add, save = Manifest.add, Manifest.save

    def once_only(self, key, record):
        add(self, key, record)
        if record["status"] != "done":
            return
        if not saved:
            monkeypatch.setattr(Manifest, "save", lambda self: None)
        raise KeyboardInterrupt

    monkeypatch.setattr(Manifest, "add", once_only)
    with pytest.raises(KeyboardInterrupt):
        extract(folder, out, again=True)
    monkeypatch.setattr(Manifest, "add", add)
    monkeypatch.setattr(Manifest, "save", save)
    summary = extract(folder, out, again=same_command)
    assert (summary.made, summary.kept) == (2, 1)
    assert content(out) == before, "no mark is left"
    assert extract(folder, out).made == 0 and extract(folder, out, again=True).made == 3


def test_extract_lists_unreadable_sources(folders, caplog):
    folder, out = folders
    (folder / "bad.npy").write_bytes(b"garbage")
    (folder / "zip.npy").write_bytes(b"PK\x03\x04 and no archive")
    (folder / "header.npy").write_bytes((folder / "a.npy").read_bytes()[:10] + b"(" * 300)
    save(folder / "flat.npy", 3, dim=5)
    np.save(folder / "turned.npy", np.zeros((4, 9), np.float32))
    np.save(folder / "nan.npy", np.full((2, 4), np.nan))
    np.save(folder / "words.npy", np.array([["a"]]))
    (folder / "gone.npy").symlink_to(folder / "nowhere.npy")
    summary = extract(folder, out)
    assert summary.made == 3
    broken = ["bad", "flat", "gone", "header", "nan", "turned", "words", "zip"]
    assert sorted(summary.failed) == [f"{name}.npy" for name in broken]
    assert "fault" not in caplog.text, "the files are wrong, not this program"
    for name, message in summary.failed.items():
        assert name in message
    assert "[3, 5], expected [T, 4]" in summary.failed["flat.npy"]
    assert "transposed" in summary.failed["turned.npy"]
    assert read_manifest(out)["files"]["nan.npy"]["status"] == "failed"
    # a failed source is retried
    save(folder / "bad.npy")
    assert extract(folder, out).made == 1


def test_extract_deletes_the_result_of_a_source_that_became_unreadable(folders):
    folder, out = folders
    extract(folder, out)
    (folder / "a.npy").write_bytes(b"garbage")
    assert list(extract(folder, out).failed) == ["a.npy"]
    assert not (out / "a.npy").exists()


def test_extract_removes_leftover_temporary_files(folders):
    folder, out = folders
    for name in ("deep/.b.abcd_123.tmp.npy", ".manifest.x1y2z3w4.tmp.json"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"half")
    for name in (".mine.npy", "b.tmp.npy", ".b.abcd_123.tmp.txt"):
        (out / name).write_bytes(b"of somebody else")
    extract(folder, out)
    hidden = sorted(name for name in content(out) if "tmp" in name or name.startswith("."))
    assert hidden == [".b.abcd_123.tmp.txt", ".mine.npy", "b.tmp.npy"]


def test_resume_extract_from_the_journal_of_a_killed_run(folders):
    folder, out = folders
    extract(folder, out)
    complete = content(out)
    manifest = json.loads(complete["manifest.json"])
    (run, settings), *_ = manifest["runs"].items()
    lines = [{"extractor": "npy", "run": run, **settings}]
    lines += [{"file": key, "record": manifest["files"][key]} for key in ("a.npy", "deep/b.npy")]
    text = "\n".join(json.dumps(line) for line in lines)
    (out / ".manifest.journal").write_text(text + '\n{"file": "deep/er/')  # torn off
    (out / "manifest.json").unlink()
    last = next(key for key in manifest["files"] if key.startswith("deep/er"))
    with pytest.raises(UserError, match="exists, but not in "):  # any results are in the journal
        extract(folder, out)
    (out / last).unlink()
    summary = extract(folder, out)
    assert (summary.made, summary.kept) == (1, 2)
    assert content(out) == complete


def test_extract_refuses_sources_with_one_output(folders):
    folder, out = folders

    class Two(NpyExtractor):
        source_suffixes = frozenset({".npy", ".npz"})

    save(folder / "a.npz.npy").rename(folder / "deep" / "b.npz")
    with pytest.raises(UserError, match=r"b\.npy and .*b\.npz would both be written to deep/b\.npy"):
        extract(folder, out, Two(4))
    assert not out.exists()


def test_extract_follows_links(folders):
    folder, out = folders
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "deep" / "er" / "self").symlink_to(folder / "deep" / "er")
    other = save(folder.parent / "elsewhere" / "c.npy").parent
    (folder / "linked").symlink_to(other)
    summary = extract(folder, out)
    assert summary.made == 4 and (out / "linked" / "c.npy").exists()


def test_extract_into_the_source_folder(folders):
    folder, _ = folders
    assert extract(folder, folder / "features").made == 3
    assert extract(folder, folder / "features").made == 0
    with pytest.raises(UserError, match="--in itself"):
        extract(folder, folder)


def test_extract_without_sources(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        extract(tmp_path / "in", tmp_path / "out")
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UserError, match=r"a\.mp4 is a file; a folder was expected: give its folder"):
        extract(tmp_path / "a.mp4", tmp_path / "out")
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=r"no file to extract; expected files ending in \.npy"):
        extract(tmp_path / "in", tmp_path / "out")


def test_extract_lock_refuses_a_second_run(folders):
    folder, out = folders
    with folder_lock(out, "a test"), pytest.raises(UserError, match="in use"):
        extract(folder, out)
    assert extract(folder, out).made == 3


def test_extract_refuses_the_folder_of_another_extractor(folders):
    folder, out = folders
    extract(folder, out)

    class Other(NpyExtractor):
        name = "other"

    with pytest.raises(UserError, match=r"the output of the extractor 'npy'"):
        extract(folder, out, Other(4))


def test_extract_refuses_an_invalid_manifest(folders):
    folder, out = folders
    out.mkdir()
    for text in ("{", '{"format": 7}', "[]"):
        (out / "manifest.json").write_text(text)
        with pytest.raises(UserError, match="move it away"):
            extract(folder, out)


# ---- with a network


class Letters(StreamReader):
    """Text files: one window per letter; `!` raises UserError, `?` is a bug, `#` kills the process."""

    def windows(self, source):
        for letter in source.read_text():
            if letter == "!":
                raise UserError(f"{source} breaks off")
            if letter == "?":
                raise ZeroDivisionError("a fault")
            if letter == "#":
                os.write(2, b"I am dying\n")
                os.kill(os.getpid(), signal.SIGKILL)
            yield np.full((1, 1, 1, 3), ord(letter), np.uint8)
        return Outcome({"letters": len(source.read_text())}, ["a note"] if "n" in source.read_text() else [])


class Backwards(NetworkRunner):
    """Gives tokens in another order than it got windows."""

    def __init__(self, broken: bool = False):
        self.broken = broken
        self.held = []
        self.lock = threading.Lock()

    def start(self, deliver):
        self.deliver = deliver
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def submit(self, key, window):
        token = MemoryError("no memory") if self.broken else np.float32([window.flat[0]])
        with self.lock:
            self.held.append((key, token))

    def work(self):
        while not self.stopped.wait(0.1):
            with self.lock:
                held, self.held = self.held, []
            for item in reversed(held):
                self.deliver(*item)

    def stop(self):
        self.stopped.set()
        self.thread.join()


class Spelling(Extractor):
    name = "spelling"
    source_suffixes = frozenset({".txt"})
    broken = False

    @classmethod
    def add_arguments(cls, parser):
        """None."""

    @classmethod
    def from_args(cls, args):
        return cls()

    def reader(self):
        return Letters()

    def options(self):
        return {"weights": "random:3"}

    def network(self):
        return Backwards(self.broken)


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "in").mkdir()
    for name, text in {"a": "hallo", "b": "welt", "c": "xyz!", "d": "n", "e": "uv?w"}.items():
        (tmp_path / "in" / f"{name}.txt").write_text(text)
    return tmp_path / "in", tmp_path / "out"


def test_extract_orders_the_tokens_of_a_clip(texts, caplog):
    folder, out = texts
    summary = extract(folder, out, Spelling())
    spelled = {path.stem: "".join(map(chr, np.load(path)[:, 0].astype(int))) for path in out.glob("*.npy")}
    assert spelled == {"a": "hallo", "b": "welt", "d": "n"}
    assert summary.failed["c.txt"].endswith("c.txt breaks off")
    assert "ZeroDivisionError: a fault" in summary.failed["e.txt"] and "Traceback" in caplog.text
    assert summary.noted == {"d.txt": ["a note"]}
    assert summary.tokens >= 10
    assert trial_weights(out) == "random:3" and trial_weights(folder) is None


def test_trial_weights_of_subfolders(texts):
    folder, out = texts
    (folder / "films" / "deep").mkdir(parents=True)
    (folder / "a.txt").rename(folder / "films" / "deep" / "a.txt")
    extract(folder, out, Spelling())
    assert trial_weights(out / "films") == trial_weights(out / "films" / "deep") == "random:3"
    (out / "real").mkdir()
    assert trial_weights(out / "real") is None
    (out / "manifest.json").write_text("of another program")
    assert trial_weights(out / "films") is None


def test_extract_worker_that_dies_fails_one_source(texts):
    folder, out = texts
    (folder / "b.txt").write_text("we#lt")
    summary = extract(folder, out, Spelling(), workers=1)
    assert sorted(path.stem for path in out.glob("*.npy")) == ["a", "d"]
    assert "signal 9" in summary.failed["b.txt"] and "I am dying" in summary.failed["b.txt"]


def test_extract_network_error_ends_the_run(texts):
    folder, out = texts

    class Broken(Spelling):
        broken = True

    with pytest.raises(MemoryError):
        extract(folder, out, Broken())
    assert not list(out.glob("*.npy"))
    assert extract(folder, out, Spelling()).made == 3


class Copier(FileReader):
    """Copies; a file that holds `skip` is skipped by policy, one with `grow` is still being written, for one
    with `full` there is no room."""

    def convert(self, source, target):
        if source.read_text() == "full":
            np.zeros(100_000).tofile("/dev/full")
        if source.read_text() == "grow":
            source.write_text("grown")
        if source.read_text() == "skip":
            return Outcome(status="skipped", notes=["left out"])
        target.write_bytes(source.read_bytes())
        return Outcome()


class Copying(Spelling):
    name = "copying"
    suffix = ".copy"

    def reader(self):
        return Copier()

    def network(self):
        return None


def test_extract_skipped_sources_stay_skipped(texts):
    folder, out = texts
    assert extract(folder, out, Copying()).made == 5
    (folder / "a.txt").write_text("skip")
    summary = extract(folder, out, Copying(), workers=2)
    assert (summary.made, summary.skipped, summary.kept) == (0, ["a.txt"], 4)
    assert not (out / "a.copy").exists(), "an older result is not left beside the record"
    summary = extract(folder, out, Copying())
    assert (summary.kept, summary.skipped, summary.noted) == (5, ["a.txt"], {"a.txt": ["left out"]})
    assert sorted(content(out)) == ["b.copy", "c.copy", "d.copy", "e.copy", "manifest.json"]


def test_extract_fails_a_source_that_changes_while_it_is_read(texts):
    folder, out = texts
    (folder / "a.txt").write_text("grow")
    summary = extract(folder, out, Copying())
    assert "a.txt changed while it was being read" in summary.failed["a.txt"] and summary.made == 4
    assert sorted(content(out)) == ["b.copy", "c.copy", "d.copy", "e.copy", "manifest.json"]
    assert extract(folder, out, Copying()).made == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_full_disk_ends_extract(texts, workers):
    folder, out = texts
    extract(folder, out, Copying())
    for name in ("b", "d"):
        (folder / f"{name}.txt").write_text("full")
    with pytest.raises(
        UserError, match=r"b\.copy cannot be written: the disk is full; the finished results are kept"
    ):
        extract(folder, out, Copying(), workers=workers)
    assert sorted(content(out)) == [*(f"{name}.copy" for name in "abcde"), "manifest.json"], "none was taken"
    for name in ("b", "d"):
        (folder / f"{name}.txt").write_text(name)
    assert extract(folder, out, Copying()).made == 2 and (out / "b.copy").read_text() == "b"


def test_extract_output_that_cannot_be_written_ends_the_run(folders):
    folder, out = folders
    out.mkdir()
    (out / "deep").touch()
    with pytest.raises(UserError, match=r"deep/b\.npy cannot be written: File exists"):
        extract(folder, out)


def test_extract_logs_progress_without_a_terminal(folders, caplog, monkeypatch):
    folder, out = folders
    monkeypatch.setattr("mmpt.utils.progress.LINE_EVERY", 0.0)
    with caplog.at_level(logging.INFO):
        extract(folder, out, show_progress=True)
    assert "3 of 3 clips" in caplog.text and "min left" in caplog.text


def test_extractors_are_found_by_name():
    assert get_extractor("npy") is NpyExtractor
    with pytest.raises(UserError, match="Did you mean 's3d'"):
        get_extractor("s3")
