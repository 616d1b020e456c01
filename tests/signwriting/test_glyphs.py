"""Shapes of symbols, and drawn signs."""

import numpy as np

from mmpt.signwriting import read_sign
from mmpt.signwriting.glyphs import draw_sign, shapes
from mmpt.signwriting.signs import GROUPS


def test_symbols_that_look_alike_have_similar_shapes():
    table = shapes()
    assert table.shape == (652, 40) and np.isclose((table**2).sum(1).mean(), 1, atol=1e-4)
    distances = ((table[:, None] - table) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    group = np.searchsorted(GROUPS, np.arange(652) + 0x100, side="right")
    assert np.mean(group[distances.argmin(1)] == group) > 0.6 > 10 * np.mean(group[:, None] == group) > 0.3


def test_a_drawn_sign_has_the_place_of_its_symbols():
    one = np.asarray(draw_sign(read_sign("M508x507S1f720488x492")).convert("L"))
    two = np.asarray(draw_sign(read_sign("M508x547S1f720488x492S1f720488x532")).convert("L"))
    assert one.min() < 60 and two.shape[0] == one.shape[0] + 40 and two.shape[1] == one.shape[1]
    assert np.array_equal(two[: one.shape[0] - 1], one[:-1]) and np.array_equal(two[40:], one)
