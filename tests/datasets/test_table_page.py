"""The pictures of a table's page."""

import numpy as np
import pytest

from mmpt.datasets import table_page
from mmpt.datasets.table_check import check_table
from mmpt.processors.table_file import read_table


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
