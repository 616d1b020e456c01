"""Signals that arrive together are one request to stop; a later one ends the process."""

import signal

import pytest

from mmpt.fairseq_plugin import stopping


def test_whoever_signals_the_launcher_and_training_asks_once():
    """As `timeout` and the managers of clusters do: training still ends with a checkpoint."""
    with stopping.stop_on_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert stop.received is signal.SIGINT and stop.status == 130


def test_a_later_signal_stops_at_once(monkeypatch):
    monkeypatch.setattr(stopping, "AT_ONCE", 0.0)
    with pytest.raises(KeyboardInterrupt), stopping.stop_on_signals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
