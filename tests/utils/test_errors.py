"""Messages and exit status of commands after errors."""

import errno
import io
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from torch._utils import ExceptionWrapper

from mmpt.cli.main import main
from mmpt.utils.errors import UserError, run_cli
from mmpt.utils.logging import setup_logging
from tests.waiting import PATIENCE


def ends(error: BaseException):
    def main() -> int:
        raise error

    return run_cli(main)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--out", ""], "the argument after '--out' is empty"), (["--out="], "--out= is empty")],
)
def test_run_cli_refuses_empty_arguments(capsys, monkeypatch, words, message):
    monkeypatch.setattr("sys.argv", ["signclip", "convert", "run", *words])
    assert run_cli(lambda: pytest.fail("it was run")) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_run_cli_user_error_is_one_line(capsys):
    assert ends(UserError("no such clip")) == 2
    assert capsys.readouterr().err == "error: no such clip\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "runs/x.npy"),
        RuntimeError("PytorchStreamWriter failed writing file data/17: file write failed"),
    ],
)
def test_full_disk_is_one_line(error, capsys):
    assert ends(error) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the disk is full") and said.count("\n") == 1
    assert "runs/x.npy" in said or isinstance(error, RuntimeError)


def test_full_disk_names_the_target_of_a_copy(capsys):
    assert ends(OSError(errno.ENOSPC, "No space left on device", "source", None, "target")) == 2
    assert "could not write target (No space left on device)" in capsys.readouterr().err


def test_full_disk_in_numpy_is_one_line(capsys):
    """NumPy does not say what the system said."""
    assert run_cli(lambda: np.zeros(100_000).tofile("/dev/full")) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the disk is full") and said.count("\n") == 1


def test_full_disk_as_the_cause_of_an_error(capsys):
    wrapped = RuntimeError("could not save")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert ends(wrapped) == 2


def test_run_cli_inaccessible_file_is_one_line(tmp_path, capsys):
    (tmp_path / "a\nfile").write_text("")
    assert run_cli(lambda: (tmp_path / "a\nfile" / "x").mkdir()) == 2
    said = capsys.readouterr().err
    assert "Not a directory" in said and r"a\nfile/x" in said and said.count("\n") == 1


def test_run_cli_broken_pipe():
    """`python -m mmpt.cli.search query ... | head -1`."""
    code = "from mmpt.utils.errors import run_cli; import sys; sys.exit(run_cli(lambda: print('x' * 10**6)))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.parametrize(
    "closed, status, said", [(">&-", 0, ""), ("2>&-", 0, "shown\n"), ("<&- >&- 2>&-", 0, "")]
)
def test_run_cli_with_a_closed_stream(closed, status, said):
    shown = "print('shown', sys.stdout.encoding[:0]), print('logged', file=sys.stderr)"
    code = f"import sys; from mmpt.utils.errors import run_cli; sys.exit(run_cli(lambda: ({shown}) and None))"
    ended = subprocess.run(["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, code], capture_output=True)
    assert ended.returncode == status and ended.stdout.decode().replace(" \n", "\n") == said
    assert b"Traceback" not in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("length", [10, 100_000])
def test_help_on_a_full_disk(length):
    code = f"""
import sys
from mmpt.cli.command import Command
command = Command("x", "x" * {length}, lambda parser: None, lambda args: None)
sys.exit(command(["--help"]))
"""
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 2 and ended.stderr.startswith("error: the disk is full"), ended.stderr


def test_a_user_without_a_home_is_one_line(monkeypatch, capsys):
    """As in a container with `--user 12345`, without HOME."""
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert run_cli(Path.home) == 2
    assert capsys.readouterr().err == (
        "error: this user has no home directory: set HOME to a folder that can be written.\n"
    )


def test_text_that_is_not_unicode_is_one_line(tmp_path, capsys):
    assert run_cli(lambda: (tmp_path / "x").write_text("of \udcff", encoding="utf-8")) == 2
    assert capsys.readouterr().err == "error: 'of \\udcff' is not valid Unicode text: give it as UTF-8.\n"
    with pytest.raises(UnicodeEncodeError):
        run_cli(lambda: (tmp_path / "x").write_text("é", encoding="ascii"))


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), RuntimeError("a bug")])
def test_run_cli_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        ends(error)


def test_run_cli_ctrl_c(capsys):
    assert ends(KeyboardInterrupt()) == 130


@pytest.mark.parametrize(
    "error, last", [("UserError('theirs')", "error: theirs"), ("ValueError('ours')", "ValueError: ours")]
)
def test_user_errors_in_one_line_under_another_program(error, last):
    code = f"from mmpt.utils.errors import *\nshow_user_errors_in_one_line()\nraise {error}"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and run.stderr.splitlines()[-1] == last
    assert ("Traceback" in run.stderr) == ("ours" in last)


def test_user_error_of_a_dataloader_worker(capsys):
    """torch sends the error with the other process's traceback in its text.

    The wrapper is DataLoader's own; DataLoader itself takes five seconds to end after an error.
    """
    try:
        raise UserError("clip 7: it breaks\noff")
    except UserError:
        sent = ExceptionWrapper(where="in DataLoader worker process 0")
    assert run_cli(sent.reraise) == 2
    assert capsys.readouterr().err == "error: clip 7: it breaks\\noff\n"


def test_run_cli_takes_words_for_those_of_the_process(capsys, monkeypatch):
    """A script calls a command: what the script was called with is its own matter."""
    monkeypatch.setattr("sys.argv", ["script.py", ""])
    assert run_cli(lambda: 0, words=["config", "list"]) == 0
    monkeypatch.setattr("sys.argv", ["script.py"])
    assert main(["embed", "--out", ""]) == 2
    assert capsys.readouterr().err.startswith("error: the argument after '--out' is empty")


def test_run_cli_leaves_the_root_logger_as_before(monkeypatch):
    root = logging.getLogger()
    mine, file = logging.StreamHandler(io.StringIO()), logging.NullHandler()
    monkeypatch.setattr(root, "handlers", [mine])
    monkeypatch.setattr(root, "level", logging.ERROR)

    def main():
        setup_logging("debug")
        assert run_cli(setup_logging, "info") == 0
        assert mine not in root.handlers and root.level == logging.INFO
        root.addHandler(file)  # as another thread of the caller may
        raise UserError("it fails")

    assert run_cli(main) == 2
    assert root.handlers == [file, mine] and root.level == logging.ERROR


def test_run_cli_of_several_threads_leaves_the_root_logger_as_before(monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.ERROR)
    first_runs, second_runs, first_ended = threading.Event(), threading.Event(), threading.Event()

    def first():
        setup_logging("info")
        first_runs.set()
        assert second_runs.wait(PATIENCE)

    def second():
        assert first_runs.wait(PATIENCE)
        setup_logging("debug")
        second_runs.set()
        assert first_ended.wait(PATIENCE)
        assert root.level == logging.DEBUG and len(root.handlers) == 1

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(run_cli, first)
        other = threads.submit(run_cli, second)
        assert one.result() == 0
        first_ended.set()
        assert other.result() == 0
    assert root.handlers == [] and root.level == logging.ERROR


def test_run_cli_with_streams_that_the_caller_has_closed(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream := io.StringIO())
        stream.close()
    assert run_cli(lambda: print("shown")) == 0
    assert ends(UserError("wrong")) == 2
