"""Draw a model's prediction for one clip: the signer and the nearest prompts."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmpt.evaluators.pictures.sign_labels import set_tick_labels, sign_labels, tick_room
from mmpt.utils.errors import UserError
from mmpt.utils.figures import has_mark, save_figure
from mmpt.utils.outputs import check_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
_MARK = "signclip demo"


def check_picture_name(path: Path) -> None:
    """Create the folder of an image. Raises UserError if the image cannot be written, or replaces another."""
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise UserError(
            f"{path}: expected the file name of an image, ending in one of {', '.join(SUFFIXES)}."
        )
    check_file(path, lambda image: has_mark(image, _MARK))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error


def answer_picture(
    path: Path, signer: NDArray[np.uint8], prompts: Sequence[str], scores: Sequence[float], title: str
) -> Path:
    """Draw the signer next to the prompts and their similarities, best first.

    signer: uint8 RGB [H, W, 3]. prompts, scores: at least one. Returns `path`. Raises UserError if the image
    cannot be written.
    """
    check_picture_name(path)
    height, width = signer.shape[:2]
    labels = sign_labels(prompts, longest=32)
    room = tick_room(labels, 0.3)
    size = max(4.0, room * len(prompts) + 1.2)
    figure = Figure(figsize=(size * width / height + 5.5, size), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[size * width / height, 5.5])
    left.imshow(signer)
    left.set_axis_off()
    positions = np.arange(len(prompts))
    colours = ["#2f6db3"] + ["#b9c6d6"] * (len(prompts) - 1)
    start = min(0.0, *scores) if len(scores) > 1 else 0.0
    bars = right.barh(positions, np.subtract(scores, start), left=start, color=colours, height=0.7)
    right.bar_label(bars, [f"{score:+.3f}" for score in scores], fontsize=8, padding=3)
    set_tick_labels(right, "y", labels, 9, room)
    right.invert_yaxis()
    right.set_xlim(start, max(max(scores) * 1.2, start + 0.1))
    right.set_xlabel("cosine similarity", fontsize=8)
    right.tick_params(axis="x", labelsize=8)
    right.spines[["top", "right"]].set_visible(False)
    right.set_title(f"first: {prompts[0]}", fontsize=10, loc="left")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return save_figure(figure, path, dpi=110, mark=_MARK)
