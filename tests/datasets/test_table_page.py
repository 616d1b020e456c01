"""The pictures of a table's page."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from signwriting.formats.fsw_to_swu import fsw2swu

from mmpt.cli.check import main
from mmpt.datasets import table_page
from mmpt.datasets.table_check import check_table
from mmpt.processors.table_file import read_table
from mmpt.signwriting import read_sign
from mmpt.signwriting.alphabets import signs_of_letter
from mmpt.signwriting.glyphs import draw_sign

SIGNS = [signs_of_letter("gsg", letter)[0] for letter in "ABCDEFGH"]


@pytest.mark.parametrize("unreadable", [False, True])
def test_lengths_count_readable_clips_only(tmp_path, monkeypatch, unreadable):
    """An unreadable clip has no length, least of all 0; a single class is drawn as well as many."""
    drawn = {}
    monkeypatch.setattr(table_page, "save_figure", lambda figure, path, dpi: drawn.update(figure=figure))
    if not unreadable:
        np.save(tmp_path / "a.npy", np.ones((30, 2), np.float32))
    (tmp_path / "t.csv").write_text("id,path,text,split\na,a.npy,x,train\nb,gone.npy,x,train\n")
    table_page._lengths(tmp_path / "lengths.png", check_table(read_table(tmp_path / "t.csv")))
    lengths, classes = drawn["figure"].axes
    (histogram,), (steps,) = lengths.patches, classes.patches
    counted = histogram.get_xy()
    assert counted[:, 1].max() == (0 if unreadable else 1)
    assert unreadable or counted[:, 0].min() == 29.5
    assert steps.get_data().values.tolist() == [2] and steps.get_data().edges.tolist() == [0.5, 1.5]


def test_clips_are_drawn_side_by_side(small_table, tmp_path, monkeypatch):
    """Six in a row, each in its own rectangle, with the shoulders one unit apart and the hand in blue."""
    drawn = {}
    monkeypatch.setattr(table_page, "save_figure", lambda figure, path, dpi: drawn.update(figure=figure))
    table_page._clips(tmp_path / "clips.png", check_table(read_table(small_table)))
    (axes,) = drawn["figure"].axes
    assert len(axes.texts) == len(axes.collections) == 12
    assert [text.get_text() for text in axes.texts][::6] == ["A\nasq-A (valid)", "B\nsvk-B (train)"]
    for place, (clip, title) in enumerate(zip(axes.collections, axes.texts)):
        corner = np.array([place % 6 * 3.2, place // 6 * 3.7])
        _, trunk, *_, finger = clip.get_segments()
        assert np.hypot(*(trunk[0] - trunk[-1])) == pytest.approx(1, abs=0.1)
        np.testing.assert_allclose((trunk[0] + trunk[-1]) / 2, corner + np.array([1.5, 1.2]), atol=0.1)
        assert len(finger) == 5 and clip.get_colors()[-1][2] > clip.get_colors()[-1][0] + 0.3
        cut = axes.transData.inverted().transform(clip.get_clip_box())
        np.testing.assert_allclose(np.sort(cut, axis=0), [corner, corner + 3], atol=1e-9)
        assert title.get_position()[1] < corner[1]


def signs_of_table(tmp_path, *cells):
    """`signclip check` of a table with these cells of `signwriting`: status, check.json, check.md."""
    np.save(tmp_path / "a.npy", np.arange(60, dtype=np.float32).reshape(30, 2))
    rows = [f"{n},a.npy,text {n},train,{cell}" for n, cell in enumerate(cells)]
    (tmp_path / "t.csv").write_text("\n".join(["id,path,text,split,signwriting", *rows]))
    status = main([str(tmp_path / "t.csv"), "--workers", "0"])
    folder = tmp_path / "t_check"
    return status, json.loads((folder / "check.json").read_text()), (folder / "check.md").read_text()


def test_signs_are_drawn(tmp_path):
    """One image for each sign, also in Unicode SignWriting; a row without a sign has none."""
    cells = [SIGNS[0], fsw2swu(SIGNS[1]), "", f"{SIGNS[2]} {SIGNS[3]}"]
    status, found, page = signs_of_table(tmp_path, *cells)
    assert status == 0 and not found["errors"]
    images = re.findall(r'<img alt="(\S+)" title="\S+" src="data:image/png;base64,(\S+)">', page)
    assert [alt for alt, _ in images] == SIGNS[:4]
    for fsw, data in images:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.convert("L").tobytes() == draw_sign(read_sign(fsw), 40).convert("L").tobytes()
    assert "| 2 | text 0 | <img" in page and "| 4 | text 2 |" not in page


def test_each_invalid_sign_is_reported(tmp_path):
    """Of fifty signs, each invalid one is named by line, column and part; the others are drawn."""
    cells = [SIGNS[n % len(SIGNS)] for n in range(50)]
    planted = {
        3: ("M510x508S38c20490x493", "'S38c20'"),
        17: ("M510x508", "'M510x508'"),
        30: ("A", "'A'"),
    }
    planted |= {31: (f"{SIGNS[0]} M10x508S1f720490x493", "'10x508S'"), 49: ("house", "'house'")}
    for number, (cell, _) in planted.items():
        cells[number] = cell
    status, found, page = signs_of_table(tmp_path, *cells)
    assert status == 1 and len(found["errors"]) == len(planted)
    for error, (number, (_, part)) in zip(found["errors"], planted.items()):
        assert f"t.csv, line {number + 2}, column 'signwriting': the sign " in error
        assert f"is not valid SignWriting at {part}" in error and error in page.replace("\\", "")
    assert page.count("<img ") == 45


def test_no_signs_without_the_column(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((30, 2), np.float32))
    (tmp_path / "t.csv").write_text("id,path,text,split\na,a.npy,x,train\n")
    main([str(tmp_path / "t.csv"), "--workers", "0"])
    assert "## Signs" not in (tmp_path / "t_check" / "check.md").read_text()


def test_a_long_table_shows_its_first_signs(tmp_path, monkeypatch):
    monkeypatch.setattr(table_page, "_SIGNS", 3)
    _, _, page = signs_of_table(tmp_path, *SIGNS[:5])
    assert "The first 3 of 5 texts with signs." in page and page.count("<img ") == 3


@pytest.mark.parametrize(("symbols", "errors"), [(20, 0), (70, 1)])
def test_a_config_reads_signs_as_its_model_does(tmp_path, symbols, errors):
    """A sign has as many tokens as symbols: no warning about its words, and an error if it has too many."""
    np.save(tmp_path / "a.npy", np.ones((30, 2), np.float32))
    cell = "M510x508" + "S1f720490x493" * symbols
    (tmp_path / "t.csv").write_text(f"id,path,text,split,signwriting\na,a.npy,x,train,{cell}\n")
    (tmp_path / "c.yaml").write_text(
        "includes: [package:table, package:signwriting]\n"
        f"dataset: {{table_path: {tmp_path / 't.csv'}, video_processor: VideoProcessor, max_len: 64,\n"
        "  prompt_templates: ['{text}', '{signwriting}']}\nmodel: {vfeat_dim: 2}\n"
    )
    assert main([str(tmp_path / "c.yaml"), "--workers", "0"]) == errors
    found = json.loads((tmp_path / "t_check" / "check.json").read_text())
    assert len(found["errors"]) == errors and not any("bert_name" in w for w in found["warnings"])
    assert all("1 signs with 70 symbols: expected at most" in line for line in found["errors"])
