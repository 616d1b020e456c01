"""Setting up logging."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging, some_of


@pytest.fixture(autouse=True)
def root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_setup_logging_shows_each_message_once() -> None:
    logging.getLogger().addHandler(logging.StreamHandler(old := io.StringIO()))  # as a library would
    setup_logging("info", first := io.StringIO())
    setup_logging("warning", second := io.StringIO())
    log = logging.getLogger("mmpt.somewhere")
    log.info("hidden")
    log.warning("shown")
    assert old.getvalue() == first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
    assert second.getvalue().rstrip().endswith("WARNING mmpt.somewhere: shown")


def test_setup_logging_keeps_other_handlers(tmp_path: Path) -> None:
    file = logging.FileHandler(tmp_path / "run.log")
    logging.getLogger().addHandler(file)
    setup_logging(logging.INFO, io.StringIO())
    assert file in logging.getLogger().handlers
    file.close()


@pytest.mark.parametrize("rank, shown", [(None, ""), ("0", ""), ("3", "rank 3: ")])
def test_lines_of_processes_behind_the_first_name_their_rank(monkeypatch, rank, shown) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    setup_logging("info", stream := io.StringIO())
    logging.getLogger("mmpt.somewhere").warning("read %d %%", 5)
    assert stream.getvalue().endswith(f" WARNING mmpt.somewhere: {shown}read 5 %\n")


def test_setup_logging_unknown_level() -> None:
    with pytest.raises(UserError, match=r"'loud'.*WARNING"):
        setup_logging("loud")


def test_names_with_line_breaks_stay_on_one_line() -> None:
    assert some_of(["a", "b\nc", "d"], most=2) == "a, 'b\\nc' and 1 more"
