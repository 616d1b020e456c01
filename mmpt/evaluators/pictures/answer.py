"""What a model says of one clip, as a picture: the signer, and the prompts it found nearest."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmpt.evaluators.pictures.labels import short_labels
from mmpt.utils.errors import UserError
from mmpt.utils.figures import save_figure

SUFFIXES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")


def check_picture_name(path: Path) -> None:
    """Raises UserError if a picture cannot be written under that name. Its folder is made."""
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise UserError(f"{path}: expected the name of a picture, ending in one of {', '.join(SUFFIXES)}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error


def answer_picture(
    path: Path, signer: NDArray[np.uint8], prompts: Sequence[str], scores: Sequence[float], title: str
) -> Path:
    """Draw the signer beside the prompts with their similarities, best first.

    signer: uint8 RGB [H, W, 3]. prompts, scores: as many as are to be shown, at least one. Returns `path`.
    Raises UserError for a name that is no picture's.
    """
    check_picture_name(path)
    height, width = signer.shape[:2]
    size = max(4.0, 0.3 * len(prompts) + 1.2)
    figure = Figure(figsize=(size * width / height + 5.5, size), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[size * width / height, 5.5])
    left.imshow(signer)
    left.set_axis_off()
    places = np.arange(len(prompts))
    colours = ["#2f6db3"] + ["#b9c6d6"] * (len(prompts) - 1)
    start = min(0.0, *scores) if len(scores) > 1 else 0.0
    bars = right.barh(places, np.subtract(scores, start), left=start, color=colours, height=0.7)
    right.bar_label(bars, [f"{score:+.3f}" for score in scores], fontsize=8, padding=3)
    right.set_yticks(places, short_labels(prompts, longest=32), fontsize=9)
    right.invert_yaxis()
    right.set_xlim(start, max(max(scores) * 1.2, start + 0.1))
    right.set_xlabel("cosine similarity", fontsize=8)
    right.tick_params(axis="x", labelsize=8)
    right.spines[["top", "right"]].set_visible(False)
    right.set_title(f"first: {prompts[0]}", fontsize=10, loc="left")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return save_figure(figure, path, dpi=110)
