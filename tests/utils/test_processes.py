"""Running commands: signals are forwarded, and the exit status is that of a shell."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mmpt.utils.errors import sigterm_as_interrupt
from mmpt.utils.processes import run_forwarding_signals, signals_forwarded
from tests.waiting import PATIENCE, wait_until

# a child that says when it is there, and what it was stopped by
CHILD = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def stop(number, frame):
    (folder / "stopped").write_text(signal.Signals(number).name)
    sys.exit(7)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
(folder / "there").touch()
time.sleep(600)
"""
FORWARDING = (
    "import sys; from mmpt.utils.processes import run_forwarding_signals as run; sys.exit(run(sys.argv[1:]))"
)
SERIES = """
import sys
from pathlib import Path
from mmpt.experiments import runs
from mmpt.utils.errors import run_cli
runs.LAUNCH = (sys.argv[1],)
class Given(runs.Run):
    arguments = (sys.argv[2],)
    def __post_init__(self): pass
    def results(self): return None
# the launcher is given the config, then the arguments: the config is the folder here
sys.exit(run_cli(runs.run_all, [Given("one", Path(sys.argv[2]), (), Path(sys.argv[2]))]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_forwarding_signals_forwards_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", FORWARDING, sys.executable, "-c", CHILD, str(tmp_path)]
    process = subprocess.Popen(command)
    wait_until((tmp_path / "there").exists, "the child is there")
    process.send_signal(number)
    assert process.wait(PATIENCE) == 7, "the child decides"
    assert (tmp_path / "stopped").read_text() == number.name


def test_a_signal_while_the_command_starts_is_forwarded(monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen

    def start_and_signal(*command: Any, **options: Any) -> "subprocess.Popen[bytes]":
        process = start(*command, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(subprocess, "Popen", start_and_signal)

    def fail(number: int, frame: object) -> None:
        pytest.fail("the signal is not forwarded")

    before = signal.signal(signal.SIGTERM, fail)
    try:
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        assert run_forwarding_signals(sleep) == 128 + signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is fail
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_between_two_commands_is_forwarded_to_the_second() -> None:
    with signals_forwarded() as forward_to:
        first = subprocess.Popen([sys.executable, "-c", ""])
        forward_to(first)
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet asked for its status
        os.kill(os.getpid(), signal.SIGTERM)
        second = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        forward_to(second)
        assert (first.wait(), second.wait(PATIENCE)) == (0, -signal.SIGTERM)


def test_run_forwarding_signals_status_after_a_signal() -> None:
    died = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    assert run_forwarding_signals(died) == 128 + signal.SIGKILL
    assert run_forwarding_signals([sys.executable, "-c", "raise SystemExit(3)"]) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_forwarding_signals_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    launcher = tmp_path / "launcher.py"
    launcher.write_text(CHILD)
    process = subprocess.Popen(
        [sys.executable, "-c", SERIES, str(launcher), str(tmp_path)],
        # a shell lets background jobs ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until((tmp_path / "there").exists, "the child is there")
    process.send_signal(number)
    assert process.wait(PATIENCE) == 128 + number
    assert (tmp_path / "stopped").read_text() == "SIGTERM"


def test_sigterm_interrupts_only_inside_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_command_of_another_thread_is_waited_for() -> None:
    """Python handles signals in the main thread only."""
    with ThreadPoolExecutor(1) as thread:
        assert (
            thread.submit(run_forwarding_signals, [sys.executable, "-c", "raise SystemExit(3)"]).result() == 3
        )
