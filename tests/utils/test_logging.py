"""One handler, whoever asked for one before."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging


@pytest.fixture(autouse=True)
def root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_each_message_is_shown_once_from_the_level_up() -> None:
    logging.getLogger().addHandler(logging.StreamHandler(old := io.StringIO()))  # as a library would
    setup_logging("info", first := io.StringIO())
    setup_logging("warning", second := io.StringIO())
    log = logging.getLogger("mmpt.somewhere")
    log.info("hidden")
    log.warning("shown")
    assert old.getvalue() == first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
    assert second.getvalue().rstrip().endswith("WARNING mmpt.somewhere: shown")


def test_handlers_that_are_not_for_a_terminal_stay(tmp_path: Path) -> None:
    file = logging.FileHandler(tmp_path / "run.log")
    logging.getLogger().addHandler(file)
    setup_logging(logging.INFO, io.StringIO())
    assert file in logging.getLogger().handlers
    file.close()


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(UserError, match=r"'loud'.*WARNING"):
        setup_logging("loud")
