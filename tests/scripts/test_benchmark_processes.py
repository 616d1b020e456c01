"""What the benchmarks run in a process of its own."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))


def test_benchmark_own_process_keeps_its_object() -> None:
    from benchmarks.common import OwnProcess

    with OwnProcess(bytearray, b"ab") as process:
        process.call("append", ord("c"))
        assert process.call("decode") == "abc"
        with pytest.raises(AttributeError, match="nothing"):
            process.call("nothing")
    with pytest.raises(ValueError, match="must be in range"):
        OwnProcess(bytearray, [256])


def test_benchmark_in_own_process() -> None:
    from benchmarks.common import in_own_process

    pid, memory = in_own_process(os.getpid)
    assert pid != os.getpid()
    assert memory > 2**20
