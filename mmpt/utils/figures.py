"""How pictures are saved: in one step, without a display, with texts as they are written."""

import math
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from mmpt.utils.files import atomic_write

MOST_PIXELS = 4000


def save_figure(figure: Figure, path: Path, dpi: int = 150) -> Path:
    """Write a picture in one step, at most 4000 pixels wide or high. Returns its path.

    A `$` is a `$`: glosses such as `$INDEX1` would be read as formulas otherwise.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
    resolution = min(dpi, math.floor(MOST_PIXELS / max(figure.get_size_inches())))
    with atomic_write(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, dpi=resolution)
    return path
