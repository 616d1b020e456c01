"""Save matplotlib figures atomically, without a display."""

import functools
import logging
import math
import warnings
from pathlib import Path
from typing import Any

from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from mmpt.utils.files import atomic_write

log = logging.getLogger(__name__)

MAX_PIXELS = 4000
_MARGIN = 0.05  # inches
_FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans Arabic", "Arial Unicode MS")
"""Fonts to try for each character, in this order, if installed."""
_warned = {"fonts": False}


def save_figure(figure: Figure, path: Path, dpi: int = 150, mark: str | None = None) -> Path:
    """Write an image atomically, at most 4000 pixels wide or high. Returns its path.

    mark: written into the file as the program that made it, so that has_mark finds it.

    The image grows so that no text is cut off. `$` is literal, for glosses such as `$INDEX1`. Warns once
    about characters that no installed font has.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_usetex(False)
        text.set_fontfamily(_installed_fonts())
    canvas = FigureCanvasAgg(figure)
    with atomic_write(path) as temporary, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # its result is kept; print_figure would compute it twice more
        drawn = figure.get_tightbbox().padded(_MARGIN)
        resolution = min(dpi, math.floor(MAX_PIXELS / max(drawn.size)))
        made_by = {} if mark is None else _made_by(path.suffix.lower(), mark)
        canvas.print_figure(temporary, dpi=resolution, bbox_inches=drawn, **made_by)
    for warning in caught:
        if "missing from" not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif not _warned["fonts"]:
            _warned["fonts"] = True
            log.warning(
                "%s: no installed font has some of its characters, which are drawn as boxes: install a font "
                "such as Noto Sans CJK",
                path,
            )
    return path


def has_mark(path: Path, mark: str) -> bool:
    """Whether an image was written by save_figure with this mark. Raises OSError."""
    return mark.encode() in path.read_bytes()


def _made_by(suffix: str, mark: str) -> dict[str, Any]:
    """Arguments of print_figure that write `mark` as plain bytes."""
    if suffix in (".jpg", ".jpeg"):
        return {"pil_kwargs": {"comment": mark}}
    return {"metadata": {"Software" if suffix == ".png" else "Creator": mark}}


@functools.cache
def _installed_fonts() -> list[str]:
    known = set(font_manager.get_font_names())
    return [name for name in _FONTS if name in known]
