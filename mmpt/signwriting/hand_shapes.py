"""What a hand symbol means: which fingers are out or bent, and where the thumb is, by its HamNoSys.

HamNoSys (Hanke 2004) writes a hand shape by its parts. The package `signwriting` has signs of a dictionary in
both notations. So the parts of most common hand symbols are known, also of those that no training prompt has.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmpt.signwriting.glyphs import PICTURE_DIM, shapes
from mmpt.signwriting.ids import BASES
from mmpt.signwriting.signs import FIRST_BASE, GROUPS, HANDS, read_sign
from mmpt.utils.errors import UserError

_HAND_BASES = GROUPS[HANDS] - FIRST_BASE
_SHAPES = range(0xE000, 0xE00C)
"""Characters of HamNoSys that begin a hand shape: fist, flat hand, index finger, ..., open C."""
_ORIENTATIONS = range(0xE020, 0xE038)
"""Characters that end it: directions of the fingers."""
_PARTS = (*_SHAPES, *range(0xE00C, 0xE00F), *range(0xE010, 0xE015), *range(0xE070, 0xE07B))
"""The shape, and what may follow it: place of the thumb, bends, single fingers and their parts."""
_PARTS_DIM = len(_PARTS)
_PARTS_SCALE = 2.0
"""Length of a hand's parts relative to that of its picture."""
SHAPE_DIM = PICTURE_DIM + _PARTS_DIM
"""Numbers that describe the shape of a base symbol."""
_BY_PICTURE = 0.5
"""Share of the variance between hand shapes that similar pictures explain."""


@functools.cache
def described_shapes() -> NDArray[np.float32]:
    """The shape of each base symbol, by its picture and the parts of the hand: float32 [652, 71]."""
    return np.concatenate([shapes(), _PARTS_SCALE * hand_parts()], axis=1)


@functools.cache
def hand_parts() -> NDArray[np.float32]:
    """The parts of each base symbol's hand shape: float32 [652, 31], mean squared length 1 over hands.

    A row is how the parts differ from the mean hand: the posterior mean of a Gaussian process over pictures
    (glyphs.shapes), given the HamNoSys of the signs with this hand symbol alone. It is near their average
    where there are many, and a guess from similar pictures where there is none. Other symbols have 0.
    """
    bases, parts = (np.array(column) for column in zip(*_observed()))
    known, which, counts = np.unique(bases, return_inverse=True, return_counts=True)
    average = np.zeros((len(known), _PARTS_DIM))
    np.add.at(average, which, parts)
    average /= counts[:, None]
    middle = average.mean(0)
    pictures = shapes()[:_HAND_BASES].astype(np.float64)
    distance = ((pictures[:, None] - pictures) ** 2).sum(-1)
    alike = np.exp(-distance / np.median(distance))
    kernel = _BY_PICTURE * alike + (1 - _BY_PICTURE) * np.eye(_HAND_BASES)
    given = kernel[np.ix_(known, known)] + np.diag(1 / counts)
    rows = kernel[:, known] @ np.linalg.solve(given, average - middle)
    table = np.zeros((BASES, _PARTS_DIM), dtype=np.float32)
    table[:_HAND_BASES] = rows / np.sqrt((rows**2).sum(1).mean())
    return table


def _observed() -> Iterator[tuple[int, NDArray[np.float64]]]:
    """A base from 0 and the parts of its HamNoSys, for each sign in which no hand has another base."""
    import signwriting

    path = Path(signwriting.__file__).parent / "hamnosys" / "parallel.json"
    for entry in json.loads(path.read_text(encoding="utf-8")):
        for hamnosys in entry.get("hamnosys", ()):
            bases = _hand_bases(entry["signwriting"])
            for parts in _hand_shapes(hamnosys) if len(bases) == 1 else ():
                yield bases.copy().pop(), np.array([part in parts for part in _PARTS], dtype=np.float64)


def _hand_bases(text: str) -> set[int]:
    """The bases of the hands in a sign; none if it is not valid."""
    try:
        symbols = read_sign(text).symbols
    except UserError:
        return set()
    return {symbol.base - FIRST_BASE for symbol in symbols} & set(range(_HAND_BASES))


def _hand_shapes(hamnosys: str) -> list[set[int]]:
    """The characters of each hand shape: from one that begins it to the next direction of the fingers."""
    found: list[set[int]] = []
    within = False
    for character in map(ord, hamnosys):
        if character in _SHAPES and not within:
            found.append(set())
            within = True
        elif character in _ORIENTATIONS:
            within = False
        if within:
            found[-1].add(character)
    return found
