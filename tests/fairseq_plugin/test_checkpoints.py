"""A best checkpoint is not trained over."""

from pathlib import Path

import pytest

from mmpt.fairseq_plugin.checkpoints import keep_best
from mmpt.utils.errors import UserError

BEST, LAST, CONFIG = "checkpoint_best.pt", "checkpoint_last.pt", "config.yaml"


@pytest.mark.parametrize(
    "files, last",
    [
        ({}, None),
        ({CONFIG: b"seed"}, None),
        ({BEST: b"best", LAST: b"last"}, b"last"),
        ({BEST: b"best", LAST: b"last", CONFIG: b"seed"}, b"last"),
        ({BEST: b"best", CONFIG: b"seed"}, b"best"),
    ],
)
def test_what_a_training_finds_to_go_on_from(
    tmp_path: Path, files: dict[str, bytes], last: bytes | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    keep_best(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*files, *([LAST] if last else [])}
    assert last is None or (tmp_path / LAST).read_bytes() == last


def test_a_checkpoint_that_was_brought(tmp_path: Path) -> None:
    (tmp_path / BEST).write_bytes(b"somebody's")
    with pytest.raises(UserError, match=r"is of no training in its folder .* move it away, or name another"):
        keep_best(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [BEST]
