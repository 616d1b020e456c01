"""Handlers of signals while a block runs."""

import signal
import threading

import pytest

from mmpt.utils.signals import signals_to


def test_signals_go_to_the_handler_and_then_as_before() -> None:
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)
    got: list[int] = []
    with signals_to(lambda number, frame: got.append(number), signal.SIGUSR1, signal.SIGUSR2) as known:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)
    assert got == [signal.SIGUSR1, signal.SIGUSR2] and tuple(known.values()) == before
    assert (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)) == before


def test_signals_whose_handler_is_not_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: None)
        with signals_to(lambda number, frame: None, signal.SIGUSR1):
            pass
    assert signal.signal(signal.SIGUSR1, before) is signal.SIG_DFL


def test_signals_in_another_thread_stay_as_they_are() -> None:
    seen: list[object] = []

    def block() -> None:
        with signals_to(lambda number, frame: None, signal.SIGUSR1) as before:
            seen.extend([before, signal.getsignal(signal.SIGUSR1)])

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [{}, signal.getsignal(signal.SIGUSR1)]
