"""What hand symbols mean, by HamNoSys."""

import numpy as np

from mmpt.signwriting import hand_shapes
from mmpt.signwriting.glyphs import shapes
from mmpt.signwriting.hand_shapes import (
    SHAPE_DIM,
    _hand_bases,
    _hand_shapes,
    _observed,
    described_shapes,
    hand_parts,
)
from mmpt.signwriting.signs import FIRST_BASE, GROUPS, HANDS

HANDS_END = GROUPS[HANDS] - FIRST_BASE
INDEX, FIST, THUMB_OUT, FLAT = (base - FIRST_BASE for base in (0x100, 0x203, 0x1F5, 0x15A))


def test_hand_shapes_are_read_from_hamnosys_up_to_the_direction_of_the_fingers():
    """Two hands, [a fist with the thumb out; a flat hand], and after the directions the place of contact."""
    assert _hand_shapes("\ue0e2\ue000\ue00c\ue020\ue038\ue0e7\ue001\ue026\ue071\ue0e3") == [
        {0xE000, 0xE00C},
        {0xE001},
    ]
    assert _hand_shapes("\ue020\ue00c") == []


def test_a_sign_that_is_no_fsw_has_no_hands():
    assert _hand_bases("M508x507S1f720488x492S22a04488x492") == {0xF7} and _hand_bases("M5") == set()


def test_a_sign_with_two_hand_symbols_says_nothing_about_either(monkeypatch):
    fist, flat = "S20320488x492", "S15a20488x492"
    entries = [
        {"signwriting": f"M508x507{signs}", "hamnosys": ["\ue000\ue020\ue001\ue020"]}
        for signs in (fist + flat, fist + fist)
    ] + [{"signwriting": f"M508x507{flat}"}]
    monkeypatch.setattr(hand_shapes.json, "loads", lambda text: entries)
    assert [(base, np.flatnonzero(parts).tolist()) for base, parts in _observed()] == [
        (FIST, [0]),
        (FIST, [1]),
    ]


def test_a_hand_of_many_signs_has_the_mean_of_their_parts():
    bases, parts = (np.array(column) for column in zip(*_observed()))
    known, counts = np.unique(bases, return_counts=True)
    mean = np.stack([parts[bases == base].mean(0) for base in known])
    expected = (mean - mean.mean(0))[counts >= 20]
    found = hand_parts()[known[counts >= 20]]
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert len(cosine) >= 15 and cosine.min() > 0.99


def test_the_parts_of_hands_that_are_alike_are_alike():
    table = hand_parts()
    hands = table[:HANDS_END]
    assert not table[HANDS_END:].any() and np.isclose((hands**2).sum(1).mean(), 1, atol=1e-4)
    for base, begins in ((INDEX, 2), (FIST, 0), (FLAT, 1)):  # finger2, fist and flathand of HamNoSys
        assert table[base, :12].argmax() == begins
    out, across = table[:, 12], table[:, 13]  # places of the thumb
    assert across[FIST] > 0.5 > out[FIST] and out[THUMB_OUT] > 0.5 > across[THUMB_OUT]
    assert ((hands[THUMB_OUT] - hands[FIST]) ** 2).sum() < ((hands[THUMB_OUT] - hands[FLAT]) ** 2).sum()
    unseen = np.setdiff1d(np.arange(HANDS_END), np.flatnonzero((hands**2).sum(1) > 0.5))
    assert len(unseen) and hands[unseen].any(1).all()  # guessed from their pictures


def test_a_shape_is_its_picture_and_its_parts():
    described = described_shapes()
    assert described.shape == (652, SHAPE_DIM) and described.dtype == np.float32
    assert np.array_equal(described[:, :40], shapes()) and np.array_equal(described[:, 40:], 2 * hand_parts())
