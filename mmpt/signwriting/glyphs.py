"""What the symbols of SignWriting look like: a small table of shapes, and pictures of signs."""

import base64
import functools
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.signwriting.signs import FILLS, FIRST_BASE, LAST_BASE, ROTATIONS, Sign, Symbol, exists, font_file

PICTURE_DIM = 40
"""Numbers that describe the picture of a base symbol."""
_FILLS = (0, 1, 2)
_DRAWN, _BLUR, _KEPT = 64, 2.0, 16
"""Side of a drawn symbol, radius of the blur, and side of the picture that is compared, in pixels."""


@functools.cache
def shapes() -> NDArray[np.float32]:
    """The shape of each base symbol: float32 [652, 40], mean 0, mean squared length 1.

    Principal components of the blurred pictures at the fills 0, 1 and 2: symbols that look alike have similar
    rows, so one that no training prompt contains has a meaning.
    """
    pictures = np.stack([_pictures(base) for base in range(FIRST_BASE, LAST_BASE + 1)])
    pictures -= pictures.mean(0)
    components, scale, _ = np.linalg.svd(pictures, full_matrices=False)
    components, scale = components[:, :PICTURE_DIM], scale[:PICTURE_DIM]
    # LAPACK's signs are arbitrary
    signs = np.sign(components[np.abs(components).argmax(0), np.arange(PICTURE_DIM)])
    rows = components * scale * signs
    return (rows / np.sqrt((rows**2).sum(1).mean())).astype(np.float32)


def draw_sign(sign: Sign, size: int = 30) -> Any:
    """A sign, black on white, as a PIL image; `size`: pixels per 30 units of FSW."""
    from PIL import Image, ImageDraw

    scale = size / 30
    left, top = (min(place) for place in zip(*((symbol.x, symbol.y) for symbol in sign.symbols)))
    boxes = [_fonts(size)[0].getbbox(_character(symbol, "Line")) for symbol in sign.symbols]
    width = max((symbol.x - left) * scale + box[2] for symbol, box in zip(sign.symbols, boxes))
    height = max((symbol.y - top) * scale + box[3] for symbol, box in zip(sign.symbols, boxes))
    image = Image.new("RGB", (round(width) + 2, round(height) + 2), "white")
    draw = ImageDraw.Draw(image)
    for symbol in sign.symbols:
        _draw(draw, symbol, ((symbol.x - left) * scale + 1, (symbol.y - top) * scale + 1), size)
    return image


def sign_uri(sign: Sign) -> str:
    """A picture of a sign as a PNG in a `data:` address, for HTML."""
    stream = io.BytesIO()
    draw_sign(sign, 40).convert("L").save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _pictures(base: int) -> NDArray[np.float64]:
    """The blurred pictures of a base symbol at each of _FILLS, or at its first fill where it lacks one."""
    from PIL import Image, ImageDraw, ImageFilter

    first = next(n for n in range(FILLS * ROTATIONS) if exists(base, *divmod(n, ROTATIONS)))
    parts = []
    for fill in _FILLS:
        symbol = Symbol(base, *((fill, 0) if exists(base, fill, 0) else divmod(first, ROTATIONS)), 0, 0)
        image = Image.new("RGB", (_DRAWN, _DRAWN), "gray")
        left, top, right, bottom = _fonts(30)[0].getbbox(_character(symbol, "Line"))
        corner = ((_DRAWN - right + left) // 2 - left, (_DRAWN - bottom + top) // 2 - top)
        _draw(ImageDraw.Draw(image), symbol, corner, 30)
        blurred = image.convert("L").filter(ImageFilter.GaussianBlur(_BLUR)).resize((_KEPT, _KEPT))
        parts.append(np.asarray(blurred, dtype=np.float64).ravel() / 255)
    return np.concatenate(parts)


def _draw(draw: Any, symbol: Symbol, corner: tuple[float, float], size: int) -> None:
    line, fill = _fonts(size)
    draw.text(corner, _character(symbol, "Fill"), font=fill, fill="white")
    draw.text(corner, _character(symbol, "Line"), font=line, fill="black")


def _character(symbol: Symbol, font: str) -> str:
    return chr({"Line": 0xF0001, "Fill": 0x100001}[font] + symbol.number)


@functools.lru_cache(maxsize=8)
def _fonts(size: int) -> tuple[Any, Any]:
    from PIL import ImageFont

    line, fill = (ImageFont.truetype(str(font_file(name)), size) for name in ("Line", "Fill"))
    return line, fill
