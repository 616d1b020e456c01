"""Clips joined to one recording."""

import dataclasses

import numpy as np
import pytest

from mmpt.pose.clip import PoseClip
from mmpt.pose.components import POSE, WORLD
from mmpt.pose.joining import at_rate, join_clips
from mmpt.pose.normalization import shoulder_frame
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import assert_masked, fake_clip, layout


def _moved(clip: PoseClip, factor: float, by: tuple[float, float]) -> PoseClip:
    data = clip.data * np.float32(factor) + np.array([*by, 0], np.float32)
    data[clip.confidence == 0] = 0
    return clip.with_data(data)


@pytest.mark.parametrize("join", ["cut", "crossfade"])
def test_letters_are_where_the_spans_say_and_rests_are_made_of_their_edges(join):
    clips = [fake_clip(frames, seed) for seed, frames in enumerate((5, 1, 7))]
    moved = [clips[0], _moved(clips[1], 3.0, (50, -7)), _moved(clips[2], 0.5, (1, 2))]
    joined, spans = join_clips(moved, [0.12, 0.2, 0.0, 0.08], 25.0, join)
    assert spans == [(3, 8), (13, 14), (14, 21)] and len(joined) == 23 and joined.fps == 25
    assert_masked(joined)
    centre, scale = shoulder_frame(clips[0], axes=2)
    for clip, (start, end) in zip(clips, spans):
        part = joined.frames(slice(start, end))
        np.testing.assert_array_equal(part.confidence, clip.confidence)
        own_centre, own_scale = shoulder_frame(part, axes=2)
        np.testing.assert_allclose(own_scale, scale, rtol=1e-5)
        np.testing.assert_allclose(own_centre[:2], centre[:2], atol=1e-5)
        ratio = shoulder_frame(clip, axes=2)[1] / scale
        x = joined.data[start:end, :, 0] - clip.data[..., 0] * ratio  # one shift for all points
        assert np.ptp(x[clip.confidence != 0]) < 1e-4
    np.testing.assert_allclose(joined.data[:3], joined.data[[3, 3, 3]], rtol=1e-5)  # the first frame is held
    np.testing.assert_allclose(joined.data[21:], joined.data[[20, 20]], rtol=1e-5)
    body = joined.layout.columns(POSE)
    before, after = joined.data[7, body], joined.data[13, body]
    for place in range(5):
        weight = (place + 1) / 6 if join == "crossfade" else float(place > 2)
        expected = before * (1 - weight) + after * weight
        np.testing.assert_allclose(joined.data[8 + place, body], expected, atol=1e-5)


def test_a_point_that_one_edge_lacks_is_missing_in_half_of_the_rest():
    one, other = fake_clip(3, 1, missing=0.0), fake_clip(3, 2, missing=0.0)
    confidence = other.confidence.copy()
    confidence[0, 40] = 0
    data = other.data.copy()
    data[0, 40] = 0
    joined, _ = join_clips([one, other.with_data(data, confidence)], [0, 0.16, 0], 25.0)
    assert (joined.confidence[3:7, 40] != 0).tolist() == [True, True, False, False]
    np.testing.assert_allclose(joined.data[3:5, 40], joined.data[[2, 2], 40], atol=1e-6)
    assert_masked(joined)


def test_frame_rate_and_world_landmarks():
    names = layout()
    world = [*names.points, *((WORLD, point) for _, point in names.points if _ == POSE)]
    clip = fake_clip(31, missing=0.0, layout=type(names).of(world))
    clip = dataclasses.replace(clip, fps=30.0)
    slower = at_rate(clip, 25.0)
    assert (len(slower), slower.fps) == (26, 25.0)
    np.testing.assert_allclose(slower.data[5], clip.data[6], atol=1e-6)
    np.testing.assert_allclose(slower.data[1], clip.data[1] * 0.8 + clip.data[2] * 0.2, atol=1e-6)
    joined, _ = join_clips([clip, _moved(clip, 2.0, (9, 9))], [0, 0, 0], 30.0)
    columns = clip.layout.columns(WORLD)
    np.testing.assert_array_equal(joined.data[31:, columns], _moved(clip, 2.0, (9, 9)).data[:, columns])


def test_wrong_input_is_one_line():
    clip = fake_clip(4)
    for clips, rests in (([], [0.0]), ([clip], [0.0]), ([clip, fake_clip(4, n_face=5)], [0.0] * 3)):
        with pytest.raises(UserError):
            join_clips(clips, rests, 25.0)
    with pytest.raises(UserError, match="expected one of cut, crossfade"):
        join_clips([clip], [0, 0], 25.0, "fade")
    with pytest.raises(UserError, match="shoulders"):
        join_clips([clip.frames(slice(0))], [0, 0], 25.0)
