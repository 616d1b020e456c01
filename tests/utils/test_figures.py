"""Pictures show texts as they are written, and are not too large."""

from matplotlib.figure import Figure
from matplotlib.image import imread

from mmpt.utils.figures import MOST_PIXELS, save_figure

GLOSS = "$INDEX1^$GEST"  # of the DGS Corpus; between two $ matplotlib expects a formula


def test_dollars_are_no_formulas(tmp_path):
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


def test_no_picture_is_larger_than_it_can_be_shown(tmp_path):
    height, width, _ = imread(save_figure(Figure(figsize=(60, 10)), tmp_path / "x.png")).shape
    assert width <= MOST_PIXELS and height <= MOST_PIXELS
