"""Figures: literal text, maximum size, missing fonts."""

import warnings

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from mmpt.utils import figures
from mmpt.utils.figures import MAX_PIXELS, save_figure

pytestmark = pytest.mark.usefixtures("rendered")
GLOSS = "$INDEX1^$GEST"  # of the DGS Corpus; between two $ matplotlib expects a formula


def test_save_figure_dollar_is_literal(tmp_path):
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], label=GLOSS)
    axes.set_title(GLOSS)
    axes.set_xticks([0, 1], [GLOSS, "_^_"])
    axes.set_yticks([0, 1], [GLOSS, GLOSS])
    axes.annotate(GLOSS, (0, 0))
    axes.legend(title=GLOSS)
    figure.suptitle(GLOSS)
    assert save_figure(figure, tmp_path / "x.png").stat().st_size > 5000


def test_save_figure_maximum_size(tmp_path):
    height, width, _ = imread(save_figure(Figure(figsize=(60, 10)), tmp_path / "x.png")).shape
    assert width <= MAX_PIXELS and height <= MAX_PIXELS


def test_save_figure_warns_once_about_missing_fonts(tmp_path, caplog, recwarn, monkeypatch):
    monkeypatch.setitem(figures._warned, "fonts", False)
    for _ in range(2):
        figure = Figure()
        figure.suptitle("\U000f1234 \U000f1235")  # of private use: in no font
        save_figure(figure, tmp_path / "x.png")
    assert len(caplog.messages) == 1 and "x.png: no installed font has some of its characters" in caplog.text
    assert not [w for w in recwarn if "missing from" in str(w.message)]


def test_save_figure_keeps_other_warnings(tmp_path):
    class Loud(Text):
        def draw(self, *args, **kwargs):
            warnings.warn("a fault of ours", stacklevel=1)

    figure = Figure()
    figure.add_artist(Loud(0, 0, "x"))
    with pytest.warns(UserWarning, match="a fault of ours"):
        save_figure(figure, tmp_path / "x.png")


def test_save_figure_does_not_cut_wide_text(tmp_path):
    figure = Figure(figsize=(2, 2), layout="constrained")
    figure.subplots().set_title("a title that is more than two inches wide")
    picture = imread(save_figure(figure, tmp_path / "x.png"))
    edges = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
    assert picture.min() == 0 and all((edge == 1).all() for edge in edges)


def test_figures_are_drawn_without_latex(tmp_path):
    """As a notebook may have asked for its own figures; here, there may be none."""
    with matplotlib.rc_context({"text.usetex": True}):
        figure = Figure()
        figure.subplots().set_title("100 % of a_b")
        path = save_figure(figure, tmp_path / "figure.png")
    assert path.is_file() and not any(text.get_usetex() for text in figure.findobj(Text))
