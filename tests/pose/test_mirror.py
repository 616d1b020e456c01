import numpy as np
import pytest

from mmpt.pose.components import FACE, LEFT_HAND, POSE, RIGHT_HAND, select_components
from mmpt.pose.mirror import FACE_MIRROR, mirror, right_hand_is_idle
from mmpt.pose.normalization import normalize_shoulders
from mmpt.pose.reader import read_pose
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import assert_masked, fake_clip, layout


@pytest.mark.parametrize("n_face", [0, 468, 478])
def test_mirror_twice_is_the_identity(n_face):
    clip = fake_clip(frames=4, n_face=n_face)
    once = mirror(clip)
    assert_masked(once)
    assert not np.array_equal(once.data, clip.data)
    twice = mirror(once)
    np.testing.assert_array_equal(twice.data, clip.data)
    np.testing.assert_array_equal(twice.confidence, clip.confidence)
    assert not np.signbit(once.data[once.confidence == 0]).any()


def test_mirror_exchanges_left_and_right():
    clip = fake_clip()
    out = mirror(clip)
    np.testing.assert_array_equal(out.component(RIGHT_HAND)[0], clip.component(LEFT_HAND)[0] * [-1, 1, 1])
    np.testing.assert_array_equal(out.component(RIGHT_HAND)[1], clip.component(LEFT_HAND)[1])
    for one, other in (("LEFT_ELBOW", "RIGHT_ELBOW"), ("MOUTH_LEFT", "MOUTH_RIGHT"), ("NOSE", "NOSE")):
        a, b = clip.index(POSE, one), clip.index(POSE, other)
        np.testing.assert_array_equal(out.data[:, a, 0], -clip.data[:, b, 0])


def test_reduced_face_mirrors_into_itself():
    clip = select_components(fake_clip(n_face=478), "reduced_face")
    assert mirror(clip).layout is clip.layout


def test_the_face_is_symmetric(data_dir):
    """In a real face the pairs lie across the midline: mirrored and laid over, it nearly covers itself."""
    clip = read_pose(data_dir / "pose" / "4_17_1_cam2.pose")
    face = select_components(normalize_shoulders(clip), [FACE]).data.mean(axis=0)
    flipped = select_components(mirror(normalize_shoulders(clip)), [FACE]).data.mean(axis=0)
    face, flipped = (points[:, :2] - points[:, :2].mean(axis=0) for points in (face, flipped))
    error = np.linalg.norm(face - flipped, axis=1).max()
    assert error < 0.25 * np.linalg.norm(face, axis=1).max()
    assert (FACE_MIRROR["33"], FACE_MIRROR["468"], FACE_MIRROR["469"]) == ("263", "473", "476")  # eye, irises
    assert len(FACE_MIRROR) == 450 and all(FACE_MIRROR[b] == a for a, b in FACE_MIRROR.items())


@pytest.mark.slow
def test_face_pairs_equal_pose_format():
    from pose_format.utils.holistic import FLIPPED_FACE_POINTS

    assert [int(FACE_MIRROR.get(str(i), i)) for i in range(478)] == FLIPPED_FACE_POINTS


def test_mirror_commutes_with_normalization(data_dir):
    clip = read_pose(data_dir / "pose" / "4_17_1_cam2.pose")
    np.testing.assert_allclose(
        normalize_shoulders(mirror(clip)).data, mirror(normalize_shoulders(clip)).data, atol=1e-5
    )


def test_one_hand_alone_cannot_be_mirrored():
    with pytest.raises(UserError, match="LEFT_HAND_LANDMARKS/WRIST"):
        mirror(fake_clip(layout=layout(RIGHT_HAND)))


def test_right_hand_is_idle():
    clip = fake_clip(missing=0)
    assert not right_hand_is_idle(clip)
    still = clip.with_data(np.repeat(clip.data[:1], len(clip), axis=0))
    assert right_hand_is_idle(still)
    gone = clip.confidence.copy()
    gone[:, clip.layout.columns(RIGHT_HAND)] = 0
    assert right_hand_is_idle(clip.with_data(clip.data * (gone[..., None] > 0), gone))
