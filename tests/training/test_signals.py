"""Signals that arrive together are one request to stop; a later one ends the process."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmpt.training import signals
from mmpt.training.signals import StopRequest, stop_on_signals


def test_signals_at_the_same_time_are_one_request_to_stop():
    """As `timeout` and job managers send them: training still ends with a checkpoint."""
    stop = StopRequest()
    with stop_on_signals(stop):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert stop.received is signal.SIGINT and stop.status == 130


def test_a_later_signal_stops_at_once(monkeypatch):
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt), stop_on_signals(StopRequest()):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_without_a_signal_the_status_is_zero():
    assert StopRequest().status == 0


def test_training_in_another_thread_has_no_handlers():
    def train():
        with stop_on_signals(StopRequest()):
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(train).result() == signal.getsignal(signal.SIGTERM)
