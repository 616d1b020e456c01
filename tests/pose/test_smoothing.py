"""Gaps of the hands, and smoothing: against loops, and by their properties."""

import itertools
import math

import numpy as np
import pytest
from scipy.signal import savgol_filter

from mmpt.config.dataset_options import PoseSmoothing
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import HANDS, POSE, RIGHT_HAND
from mmpt.pose.smoothing import Smoothing, fill_gaps, one_euro, savgol
from tests.pose.pose_fakes import assert_masked, fake_clip, layout

METHODS = {
    "savgol": Smoothing.of(PoseSmoothing(smooth="savgol")),
    "one_euro": Smoothing.of(PoseSmoothing(smooth="one_euro")),
}


def holey(frames: int = 40, seed: int = 0) -> PoseClip:
    """Points that come and go independently of each other."""
    clip = fake_clip(frames, seed)
    rng = np.random.default_rng(seed)
    confidence = np.where(rng.random(clip.confidence.shape) < 0.3, 0, clip.confidence).astype(np.float32)
    return clip.with_data(np.where(confidence[..., None] == 0, 0, clip.data), confidence)


def filled_by_loop(clip: PoseClip, most: int) -> tuple[np.ndarray, np.ndarray]:
    data, confidence = clip.data.astype(np.float64), clip.confidence.astype(np.float64)
    for column, (component, _) in enumerate(clip.points):
        there = np.flatnonzero(clip.confidence[:, column])
        for a, b in itertools.pairwise(there):
            if component in HANDS and b - a - 1 <= most:
                for frame in range(a + 1, b):
                    share = (frame - a) / (b - a)
                    data[frame, column] = (1 - share) * data[a, column] + share * data[b, column]
                    confidence[frame, column] = (1 - share) * confidence[a, column] + share * confidence[
                        b, column
                    ]
    return data, confidence


@pytest.mark.parametrize("frames", [1, 2, 3, 41])
@pytest.mark.parametrize("most", [0, 1, 2, 5, 1000])
def test_gaps_are_filled_as_by_a_loop(most, frames):
    clip = holey(frames)
    before = clip.data.copy()
    got = fill_gaps(clip, most)
    data, confidence = filled_by_loop(clip, most)
    np.testing.assert_allclose(got.data, data, atol=1e-6)
    np.testing.assert_allclose(got.confidence, confidence, atol=1e-6)
    assert_masked(got)
    np.testing.assert_array_equal(clip.data, before)
    assert most or got.data is clip.data


def hand(gap: slice) -> PoseClip:
    """A right hand that moves along a line, hidden in the frames of `gap`."""
    clip = fake_clip(20, layout=layout(POSE, RIGHT_HAND), missing=0)
    columns = clip.component_slice(RIGHT_HAND)
    data, confidence = clip.data.copy(), clip.confidence.copy()
    data[:, columns] = np.arange(20, dtype=np.float32)[:, None, None] * [1, -2, 0.5]
    confidence[:, columns] = 0.8
    data[gap, columns], confidence[gap, columns] = 0, 0
    return clip.with_data(data, confidence)


def test_a_gap_of_n_frames_is_filled_and_one_of_n_plus_1_is_not():
    clip, whole = hand(slice(8, 11)), hand(slice(0, 0))
    np.testing.assert_allclose(fill_gaps(clip, 3).data, whole.data, atol=1e-5)
    np.testing.assert_allclose(fill_gaps(clip, 3).confidence, whole.confidence, atol=1e-6)
    np.testing.assert_array_equal(fill_gaps(clip, 2).data, clip.data)


def test_gaps_at_the_ends_and_of_the_body_stay():
    for gap in (slice(0, 2), slice(18, 20)):
        clip = hand(gap)
        np.testing.assert_array_equal(fill_gaps(clip, 9).confidence, clip.confidence)
    clip = fake_clip(9, layout=layout(POSE))
    clip.confidence[4], clip.data[4] = 0, 0
    assert not fill_gaps(clip, 9).confidence[4].any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("frames", [1, 2, 7, 40])
def test_missing_stays_missing_and_constant_stays_constant(method, frames):
    clip = holey(frames)
    smooth = METHODS[method](clip)
    np.testing.assert_array_equal(smooth.confidence, clip.confidence)
    assert_masked(smooth)
    still = clip.with_data(np.where(clip.present[..., None], clip.data.max(axis=0), 0).astype(np.float32))
    np.testing.assert_allclose(METHODS[method](still).data, still.data, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_points_and_runs_of_frames_do_not_influence_each_other(method):
    clip, smoother = holey(), METHODS[method]
    smooth = smoother(clip)
    order = np.random.default_rng(0).permutation(len(clip.layout))
    shuffled = smoother(clip.select(order, type(clip.layout).of([clip.points[i] for i in order])))
    np.testing.assert_allclose(shuffled.data, smooth.data[:, order], atol=1e-5)
    changed = clip.data.copy()
    column = next(c for c in range(len(clip.layout)) if 3 < (clip.confidence[:, c] == 0).argmax() < 30)
    hole = int((clip.confidence[:, column] == 0).argmax())
    changed[:hole, column] += 9
    np.testing.assert_array_equal(smoother(clip.with_data(changed)).data[hole:], smooth.data[hole:])


@pytest.mark.parametrize("method", METHODS)
def test_it_removes_noise(method):
    rng = np.random.default_rng(0)
    clip = hand(slice(0, 0))
    noisy = clip.with_data(clip.data * 0 + rng.normal(0, 0.01, clip.data.shape).astype(np.float32))
    assert METHODS[method](noisy).data.std() < 0.8 * noisy.data.std()


def test_savgol_is_scipys_on_each_run_and_keeps_a_line():
    clip = hand(slice(8, 11))
    columns = clip.component_slice(RIGHT_HAND)
    noise = np.random.default_rng(1).normal(size=clip.data.shape).astype(np.float32)
    rough = clip.with_data(np.where(clip.present[..., None], clip.data + noise, 0))
    smooth = savgol(rough, 200, 2)  # five frames at 25 per second
    for run in (slice(0, 8), slice(11, 20)):
        expected = savgol_filter(rough.data[run, columns].astype(np.float64), 5, 2, axis=0)
        np.testing.assert_allclose(smooth.data[run, columns], expected, atol=1e-5)
    np.testing.assert_allclose(savgol(clip, 200, 1).data[:, columns], clip.data[:, columns], atol=1e-4)


def test_savgol_counts_its_window_in_time():
    clip = fake_clip(50, missing=0)
    fast = PoseClip(clip.data, clip.confidence, 50.0, clip.layout, clip.width)
    np.testing.assert_array_equal(savgol(fast, 140, 2).data, savgol(clip, 280, 2).data)
    assert not np.array_equal(savgol(fast, 280, 2).data, savgol(clip, 280, 2).data)


def test_savgol_smooths_with_a_window_too_short_for_its_polynomial():
    clip = fake_clip(20, missing=0)
    np.testing.assert_array_equal(savgol(clip, 40, 2).data, savgol(clip, 200, 2).data)
    np.testing.assert_array_equal(savgol(clip, 40, 3).data, savgol(clip, 200, 3).data)


def test_savgol_leaves_runs_that_are_too_short():
    for frames, changes in ((3, False), (4, False), (5, True)):
        clip = fake_clip(frames, missing=0)
        assert np.array_equal(savgol(clip, 200, 2).data, clip.data) != changes


def euro_by_loop(values: list[float], rate: float, cutoff: float, beta: float) -> list[float]:
    """Algorithm 1 of the paper, for one number."""

    def alpha(frequency: float) -> float:
        tau = 1 / (2 * math.pi * frequency)
        return 1 / (1 + tau * rate)

    out, speed = [values[0]], 0.0
    for value in values[1:]:
        speed = alpha(1.0) * (value - out[-1]) * rate + (1 - alpha(1.0)) * speed
        weight = alpha(cutoff + beta * abs(speed))
        out.append(weight * value + (1 - weight) * out[-1])
    return out


def test_one_euro_is_the_papers_and_starts_anew_after_a_gap():
    clip = hand(slice(8, 11))
    column = clip.index(RIGHT_HAND, "WRIST")
    smooth = one_euro(clip, 1.5, 0.3).data[:, column]
    for run in (slice(0, 8), slice(11, 20)):
        for axis in range(3):
            expected = euro_by_loop(clip.data[run, column, axis].astype(float).tolist(), 25.0, 1.5, 0.3)
            np.testing.assert_allclose(smooth[run, axis], expected, atol=1e-5)


def test_without_options_nothing_is_copied():
    clip = fake_clip()
    assert Smoothing.of(PoseSmoothing())(clip).data is clip.data
    assert Smoothing.of(PoseSmoothing(smooth_beta=3)) == Smoothing()


def test_gaps_are_filled_before_smoothing():
    clip = hand(slice(8, 11))
    both = Smoothing.of(PoseSmoothing(fill_gaps=3, smooth="savgol"))(clip)
    np.testing.assert_array_equal(both.data, savgol(fill_gaps(clip, 3), 200, 2).data)
