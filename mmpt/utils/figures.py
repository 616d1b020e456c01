"""Save matplotlib figures: atomically, without a display, and with texts unchanged."""

import functools
import logging
import math
import warnings
from pathlib import Path

from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from mmpt.utils.files import atomic_write

log = logging.getLogger(__name__)

MOST_PIXELS = 4000
_MARGIN = 0.05  # inches
_FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans Arabic", "Arial Unicode MS")
"""Those of them that are installed are looked through for each character, in this order."""
_told = {"fonts": False}


def save_figure(figure: Figure, path: Path, dpi: int = 150) -> Path:
    """Write a picture in one step, at most 4000 pixels wide or high. Returns its path.

    It is as large as what is drawn: a title wider than its figure is not cut off. A `$` is a `$`: glosses
    such as `$INDEX1` would be read as formulas otherwise. Characters that no installed font has are boxes,
    which is said once.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_fontfamily(_installed_fonts())
    canvas = FigureCanvasAgg(figure)
    with atomic_write(path) as temporary, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.draw_without_rendering()
        drawn = figure.get_tightbbox().padded(_MARGIN)
        resolution = min(dpi, math.floor(MOST_PIXELS / max(drawn.size)))
        canvas.print_figure(temporary, dpi=resolution, bbox_inches=drawn)
    for warning in caught:
        if "missing from" not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif not _told["fonts"]:
            _told["fonts"] = True
            log.warning(
                "%s: some characters of its texts are in no installed font, and are boxes: install one, such "
                "as Noto Sans CJK",
                path,
            )
    return path


@functools.cache
def _installed_fonts() -> list[str]:
    known = set(font_manager.get_font_names())
    return [name for name in _FONTS if name in known]
