"""Labels of ticks for prompts with signs in SignWriting: the signs are drawn, the words are shortened."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import NDArray

from mmpt.evaluators.pictures.labels import short_labels
from mmpt.signwriting import Sign, split_signs
from mmpt.signwriting.glyphs import draw_sign
from mmpt.utils.errors import UserError

MOST_SIGNS = 4
"""Signs of a prompt that are drawn; the label ends in an ellipsis if there are more."""
ROOM = 0.36
"""Inches for each tick that make signs legible."""
_PIXELS = 90
"""Pixels per 30 units of FSW in the drawing, which is then scaled down."""
_LENGTH = 3
"""A label's signs are at most so many times as long as the room of a tick."""
_GAP = 4.0


@dataclass(frozen=True)
class Label:
    """The shortened words of a prompt, which may be empty, and its signs."""

    text: str
    signs: tuple[Sign, ...] = ()


def sign_labels(prompts: Sequence[str], longest: int = 18) -> list[Label]:
    """Labels of distinct prompts; without signs, their texts are `short_labels`.

    A prompt's number is appended where labels would be equal.
    """
    split = [_split(prompt) for prompt in prompts]
    if not any(signs for _, signs in split):
        return [Label(text) for text in short_labels(prompts, longest)]
    words = list(dict.fromkeys(text for text, _ in split if text))
    short = dict(zip(words, short_labels(words, longest)))
    if len(words) == 1 and all(text for text, _ in split):
        short[words[0]] = ""
    labels = []
    for number, (text, signs) in enumerate(split, start=1):
        shown = short.get(text, "") + ("…" if len(signs) > MOST_SIGNS else "")
        label = Label(shown, signs[:MOST_SIGNS])
        labels.append(Label(f"{shown} {number}".strip(), label.signs) if label in labels else label)
    return labels


def set_tick_labels(axes: Axes, which: str, labels: Sequence[Label], size: float, room: float) -> None:
    """Label the ticks 0, 1, ... of an axis: the signs next to the axis, and the texts outside of them.

    which: "x" or "y". size: of the font, in points. room: inches between ticks.
    """
    below = which == "x"
    axis = axes.xaxis if below else axes.yaxis
    axis.set_ticks(range(len(labels)), [label.text for label in labels], fontsize=size)
    most = room * 72 - 3
    across, along = (1, 0) if below else (0, 1)
    depth = 0.0
    for position, label in enumerate(labels):
        if not label.signs:
            continue
        picture = _picture(label.signs, upright=below)
        zoom = min(most / _PIXELS, most / picture.shape[across], _LENGTH * most / picture.shape[along])
        depth = max(depth, zoom * picture.shape[along])
        box = AnnotationBbox(
            OffsetImage(picture, zoom=zoom, resample=True),
            (position, 0) if below else (0, position),
            (0, -_GAP) if below else (-_GAP, 0),
            xycoords=axes.get_xaxis_transform() if below else axes.get_yaxis_transform(),
            boxcoords="offset points",
            box_alignment=(0.5, 1) if below else (1, 0.5),
            annotation_clip=False,
            frameon=False,
            pad=0,
        )
        axes.add_artist(box)
    if depth:
        axis.set_tick_params(pad=depth + 2 * _GAP)


def tick_room(labels: Sequence[Label], usual: float) -> float:
    """Inches for each tick: more than usual if signs are drawn."""
    return ROOM if any(label.signs for label in labels) else usual


def _split(prompt: str) -> tuple[str, tuple[Sign, ...]]:
    """The words of a prompt and its signs. A prompt with an invalid sign is words."""
    try:
        parts = split_signs(prompt)
    except UserError:
        return prompt, ()
    signs = tuple(part for part in parts if isinstance(part, Sign))
    if not signs:
        return prompt, ()
    words = (re.sub(r"^\+(\s|$)|(^|\s)\+$", "", part) for part in parts if isinstance(part, str))
    return " ".join(filter(None, words)), signs  # the + joins the prompts of an ensemble


def _picture(signs: Sequence[Sign], upright: bool) -> NDArray[np.uint8]:
    """The signs in one picture, RGB: below each other, or side by side."""
    drawn = [np.asarray(draw_sign(sign, _PIXELS)) for sign in signs]
    along, across = (0, 1) if upright else (1, 0)
    most = max(picture.shape[across] for picture in drawn)
    framed = []
    for number, picture in enumerate(drawn):
        margins = [(0, 0)] * 3
        free = most - picture.shape[across]
        margins[across] = (free // 2, free - free // 2)
        margins[along] = (_PIXELS // 5 if number else 0, 0)
        framed.append(np.pad(picture, margins, constant_values=255))
    return np.concatenate(framed, axis=along)
