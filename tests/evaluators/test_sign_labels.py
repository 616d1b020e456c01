"""Signs in SignWriting in the labels of pictures."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox
from signwriting.formats.fsw_to_swu import fsw2swu

from mmpt.evaluators.pictures import answer, confusions
from mmpt.evaluators.pictures.sign_labels import ROOM, Label, set_tick_labels, sign_labels
from mmpt.signwriting import read_sign
from mmpt.signwriting.alphabets import signs_of_letter

pytestmark = pytest.mark.usefixtures("rendered")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIGNS = [signs_of_letter("gsg", letter)[0] for letter in LETTERS]
SIGN, OTHER = (read_sign(fsw) for fsw in SIGNS[:2])
BOTH = [f"Fingerspell {letter} now. + {fsw}" for letter, fsw in zip(LETTERS, SIGNS)]


@pytest.mark.parametrize(
    ("prompts", "labels"),
    [
        (["sign a", "sign b"], [Label("a"), Label("b")]),
        (SIGNS[:2], [Label("", (SIGN,)), Label("", (OTHER,))]),
        ([fsw2swu(SIGN.fsw), SIGNS[1]], [Label("", (SIGN,)), Label("", (OTHER,))]),
        (BOTH[:2], [Label("A", (SIGN,)), Label("B", (OTHER,))]),
        ([f"{SIGN.fsw} + the letter A", OTHER.fsw], [Label("A", (SIGN,)), Label("", (OTHER,))]),
        ([f"the sign {SIGN.fsw}", f"the sign {OTHER.fsw}"], [Label("", (SIGN,)), Label("", (OTHER,))]),
        ([f"one {SIGN.fsw} two", "1 + 2"], [Label("one two", (SIGN,)), Label("1 + 2")]),
        ([" ".join(SIGNS[:1] * 5)], [Label("…", (SIGN,) * 4)]),
        ([SIGN.fsw, fsw2swu(SIGN.fsw)], [Label("", (SIGN,)), Label("2", (SIGN,))]),
        (["M508x507S38c20488x492", SIGN.fsw], [Label("M508x507S38c20488…"), Label("", (SIGN,))]),
    ],
)
def test_labels(prompts, labels):
    """Words and signs are separated; a word that only resembles a sign stays a word."""
    assert sign_labels(prompts) == labels


def drawn(monkeypatch, module):
    """The figures that a module saves, after they are drawn."""
    figures = []
    monkeypatch.setattr(module, "save_figure", lambda figure, path, **_: figures.append(figure))
    return figures


def boxes(axes, below):
    """Where the signs of an axis are, and where its texts are."""
    found = [child for child in axes.get_children() if isinstance(child, AnnotationBbox)]
    extents = [box.get_window_extent() for box in found]
    signs = [box for box in extents if (box.y1 <= axes.bbox.y0) == below]
    axis = axes.xaxis if below else axes.yaxis
    texts = [text.get_window_extent() for text in axis.get_ticklabels() if text.get_text()]
    return signs, texts, axis.label.get_window_extent()


def results(count):
    facts = {"n_videos": count, "n_prompts": count, "chance": {"v2t R@1": 0.1}, "v2t": {"R@1": 0.5}}
    return facts | {"config": "test_x.yaml"}


@pytest.mark.parametrize(("prompts", "shown"), [(SIGNS, 26), (BOTH * 3, 40)])
def test_confusion_matrix_draws_each_sign(monkeypatch, tmp_path, prompts, shown):
    """Each row and column has its sign, which overlaps no sign, text, cell or label of an axis."""
    figures = drawn(monkeypatch, confusions)
    prompts = [text.replace("now", f"now {n}") for n, text in enumerate(prompts)]
    truth = np.arange(len(prompts))
    confusions.confusion_matrix(tmp_path / "m.png", truth, np.roll(truth, 1), prompts, results(len(truth)))
    (figure,) = figures
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for below in (True, False):
        signs, texts, label = boxes(axes, below)
        assert len(signs) == shown and len(texts) == (0 if prompts[0] == SIGNS[0] else shown)
        others = [*signs, *texts, label, axes.get_window_extent()]
        for sign in signs:
            assert sum(map(sign.overlaps, others)) == 1, "itself"
            assert min(sign.width, sign.height) > 6 and max(sign.width, sign.height) > 14


@pytest.mark.parametrize("shape", ["per_class", "confusion_matrix"])
def test_pictures_differ_by_the_sign_alone(tmp_path, shape):
    """Prompts with different signs give different pictures; FSW and SWU of a sign give the same."""
    pictures = []
    for number, fsw in enumerate([SIGNS[0], fsw2swu(SIGNS[0]), SIGNS[1]]):
        path = tmp_path / f"{number}.png"
        prompts = [f"a {fsw}", "b"]
        getattr(confusions, shape)(path, np.array([0, 1]), np.array([0, 0]), prompts, results(2))
        pictures.append(path.read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_answer_picture_draws_the_signs(monkeypatch, tmp_path):
    figures = drawn(monkeypatch, answer)
    prompts = [*BOTH[:3], SIGNS[3], "random text", "a very long text that is shortened"]
    scores = np.linspace(0.9, -0.1, len(prompts)).tolist()
    answer.answer_picture(tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8), prompts, scores, "clip")
    (figure,) = figures
    figure.draw_without_rendering()
    axes = figure.axes[1]
    signs, texts, _ = boxes(axes, below=False)
    assert len(signs) == 4 and len(texts) == 5
    assert not any(sign.overlaps(text) for sign in signs for text in texts)
    centres = [(box.y0 + box.y1) / 2 for box in signs[:3]]
    assert centres == pytest.approx([(box.y0 + box.y1) / 2 for box in texts[:3]], abs=3)


def test_many_signs_in_a_label_stay_in_their_room():
    """The signs of a sentence are next to each other, and below each other under the axis."""
    figure = Figure(figsize=(2, 2))
    axes = figure.add_subplot()
    labels = [Label("", (SIGN, OTHER, SIGN, OTHER))]
    for which in "xy":
        set_tick_labels(axes, which, labels, 8, ROOM)
    figure.draw_without_rendering()
    (below,), (beside,) = (boxes(axes, which)[0] for which in (True, False))
    most = ROOM * figure.dpi
    assert below.height > 2 * below.width and below.width < most and below.height < 3 * most
    assert beside.width > 2 * beside.height and beside.height < most and beside.width < 3 * most


def test_demo(tiny_yaml, tmp_path, capsys, monkeypatch):
    """`signclip demo --out` ranks and draws signs."""
    from mmpt.cli import demo
    from tests.test_demo_finger import with_model

    path = tiny_yaml.with_name("test_tiny.yaml")
    path.write_text('includes: [package:signwriting, tiny.yaml]\ndataset:\n  prompt: "{signwriting}"\n')
    figures = drawn(monkeypatch, answer)
    assert (
        demo.main(["--config", str(with_model(path)), "--letter", "B", "--out", str(tmp_path / "a.png")]) == 0
    )
    said = capsys.readouterr().out
    figures[0].draw_without_rendering()
    signs, texts, _ = boxes(figures[0].axes[1], below=False)
    assert len(signs) == 6 and len(texts) == 1 and all(fsw in said for fsw in SIGNS[:6])
