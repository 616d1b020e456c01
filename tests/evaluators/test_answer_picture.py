"""The picture of a prediction replaces only such pictures."""

from pathlib import Path

import numpy as np
import pytest

from mmpt.evaluators.pictures.answer import SUFFIXES, answer_picture
from mmpt.utils.errors import UserError


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_answer_picture_replaces_its_own_pictures_only(tmp_path: Path, suffix: str, rendered: None) -> None:
    path, signer = tmp_path / f"answer{suffix}", np.zeros((9, 9, 3), np.uint8)
    for _ in range(2):
        answer_picture(path, signer, ["A"], [1.0], "clip")
    path.write_bytes(b"my photo")
    with pytest.raises(UserError, match="exists and was not written by this command: give another file"):
        answer_picture(path, signer, ["A"], [1.0], "clip")
    assert path.read_bytes() == b"my photo"
    link = tmp_path / f"link{suffix}"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="exists and was not written by this command"):
        answer_picture(link, signer, ["A"], [1.0], "clip")
