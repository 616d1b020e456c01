"""A symbol, its place and the number of its sign as one integer, among the token ids of a prompt.

The ids of symbols start above any vocabulary, so words and symbols share the array of a prompt. A text tower
takes a symbol's parts from its id (unpack): no table of 37,811 symbols x 250,000 places is needed.
"""

from typing import Any

from mmpt.signwriting.signs import FILLS, FIRST_BASE, HIGHEST, LAST_BASE, LOWEST, ROTATIONS, Sign

FIRST_ID = 1 << 32
MOST_SIGNS = 64
"""Signs of one prompt."""
BASES = LAST_BASE - FIRST_BASE + 1
_SIDE = HIGHEST - LOWEST + 1
_SYMBOLS = BASES * FILLS * ROTATIONS
END_ID = FIRST_ID + MOST_SIGNS * _SYMBOLS * _SIDE**2
FORMULA = (
    f"{FIRST_ID} + (({_SYMBOLS} * sign + {FILLS * ROTATIONS} * (base - {FIRST_BASE}) + {ROTATIONS} * fill + "
    f"rotation) * {_SIDE} + x - {LOWEST}) * {_SIDE} + y - {LOWEST}"
)
"""The id of a symbol (see pack)."""


def pack(signs: list[Sign]) -> list[int]:
    """The ids of all symbols of a prompt's signs, in order."""
    ids = []
    for place, sign in enumerate(signs):
        for symbol in sign.symbols:
            number = place * _SYMBOLS + symbol.number
            ids.append(FIRST_ID + (number * _SIDE + symbol.x - LOWEST) * _SIDE + symbol.y - LOWEST)
    return ids


def unpack(ids: Any) -> dict[str, Any]:
    """The parts of packed ids, an int64 tensor or array.

    sign, base, fill and rotation count from 0; x and y from the middle of the box, 500.
    """
    rest, y = _divide(ids - FIRST_ID, _SIDE)
    rest, x = _divide(rest, _SIDE)
    rest, rotation = _divide(rest, ROTATIONS)
    rest, fill = _divide(rest, FILLS)
    sign, base = _divide(rest, BASES)
    middle = 500 - LOWEST
    return {"sign": sign, "base": base, "fill": fill, "rotation": rotation, "x": x - middle, "y": y - middle}


def _divide(number: Any, by: int) -> tuple[Any, Any]:
    return number // by, number % by
