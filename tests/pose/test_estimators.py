"""Poses of other estimators, read as the points of Holistic that they are."""

import copy
import functools
import io
import os
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderDimensions
from pose_format.utils import generic

from mmpt.pose.clip import PoseClip
from mmpt.pose.components import (
    CANONICAL_POINTS,
    FACE,
    HAND_POINTS,
    HANDS,
    LEFT_HAND,
    POSE,
    REDUCED_FACE_POINTS,
    RIGHT_HAND,
)
from mmpt.pose.estimators import ESTIMATORS, Estimator, estimator_of
from mmpt.pose.mirror import mirror, mirrored_point
from mmpt.pose.reader import from_pose, read_pose
from mmpt.utils.errors import UserError

FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))  # more by hand, or by `make fuzz`
EVERY = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=list(ESTIMATORS))


def made(estimator: Estimator, frames: int = 7, seed: int = 0) -> Pose:
    """Random points of an estimator, some missing."""
    rng = np.random.default_rng(seed)
    shape = (frames, 1, len(estimator.points))
    confidence = rng.uniform(0.1, 1, shape).astype(np.float32)
    confidence[rng.random(shape) < 0.2] = 0
    data = rng.uniform(1, 400, (*shape, 2)).astype(np.float32)
    data[confidence == 0] = 0
    header = PoseHeader(0.2, PoseHeaderDimensions(640, 480, 0), copy.deepcopy(list(estimator.parts)))
    return Pose(header, NumPyPoseBody(25, data, confidence))


def write(path, pose: Pose):
    with open(path, "wb") as file:
        pose.write(file)
    return path


@functools.cache
def stored(name: str) -> bytes:
    """A file of this estimator."""
    buffer = io.BytesIO()
    made(ESTIMATORS[name], frames=3).write(buffer)
    return buffer.getvalue()


@EVERY
def test_points_are_found_by_name_in_a_file_and_in_memory(tmp_path, estimator):
    pose = made(estimator)
    path = write(tmp_path / "a.pose", pose)
    for clip in (read_pose(path), from_pose(pose)):
        assert not clip.depth and clip.width == 640 and clip.fps == 25 and len(clip) == 7
        for (component, point), source in estimator.sources.items():
            column, stored = clip.index(component, point), pose.header.get_point_index(*source)
            np.testing.assert_array_equal(clip.data[:, column, :2], pose.body.data.filled(0)[:, 0, stored])
            np.testing.assert_array_equal(clip.confidence[:, column], pose.body.confidence[:, 0, stored])
        assert not clip.data[..., 2].any()
    part = read_pose(path, [RIGHT_HAND, POSE])
    np.testing.assert_array_equal(part.component(RIGHT_HAND)[0], clip.component(RIGHT_HAND)[0])
    assert set(part.layout.components) == {RIGHT_HAND, POSE}


@EVERY
def test_all_have_the_canonical_points(estimator):
    clip = from_pose(made(estimator))
    for component, points in CANONICAL_POINTS.items():
        if component == FACE and estimator.name == "sapiens_308":  # its face has no contour
            assert component not in clip.layout.components
        else:
            assert [name for part, name in clip.points if part == component] == list(points)
    assert (mirror(mirror(clip)).data == clip.data).all()


@EVERY
def test_sides_are_those_of_the_signer(estimator):
    """A mirrored point of Holistic is the other side's point of the estimator."""

    def side(point: tuple[str, str]) -> str:
        name = " ".join(point)
        plain = name.lower().replace("-", "_")
        left = "left" in plain or point[1].startswith(("LE", "LS", "LW", "LH", "LT", "LI", "LM", "LR", "LP"))
        right = "right" in plain or point[1].startswith(
            ("RE", "RS", "RW", "RH", "RT", "RI", "RM", "RR", "RP")
        )
        return "left" * left + "right" * right

    for target, source in estimator.sources.items():
        if target[0] == FACE or estimator.name == "sapiens_308":
            continue
        wanted = "left" if "LEFT" in " ".join(target) else "right" if "RIGHT" in " ".join(target) else ""
        assert side(source) in (wanted, ""), (target, source)
        if wanted and estimator.name != "openpose_135":
            assert estimator.sources[mirrored_point(target)] != source


def test_the_68_face_points_are_symmetric_and_in_the_reduced_face():
    """The i-th of the 68 points mirrors into the one that COCO-WholeBody lists as its counterpart."""
    counterpart = {i: 16 - i for i in range(17)} | {i: 43 - i for i in range(17, 27)}
    counterpart |= {36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46}
    counterpart |= {48: 54, 49: 53, 50: 52, 51: 51, 55: 59, 56: 58, 57: 57}
    counterpart |= {60: 64, 61: 63, 62: 62, 65: 67, 66: 66}
    counterpart |= {b: a for a, b in counterpart.items()}
    faces = ESTIMATORS["coco_wholebody_133"].sources
    of_68 = {int(faces[FACE, point][1].removeprefix("face-")): point for point in CANONICAL_POINTS[FACE]}
    assert len(of_68) == 59
    for number, point in of_68.items():
        assert mirrored_point((FACE, point)) == (FACE, of_68[counterpart[number]]), number
    assert set(CANONICAL_POINTS[FACE]) <= set(REDUCED_FACE_POINTS)


def test_numbers_of_sapiens():
    """By Sapiens' own list: 21 right_thumb4 (the tip), 28 right_forefinger_third_joint, 62 left_wrist."""
    sources = ESTIMATORS["sapiens_308"].sources
    for component, point, number in (
        (POSE, "LEFT_HIP", "9"),
        (POSE, "RIGHT_WRIST", "41"),
        (LEFT_HAND, "WRIST", "62"),
        (RIGHT_HAND, "THUMB_TIP", "21"),
        (RIGHT_HAND, "INDEX_FINGER_MCP", "28"),
        (LEFT_HAND, "PINKY_DIP", "59"),
    ):
        assert sources[component, point] == ("SAPIENS_308", number)
    for hand in HANDS:
        assert len({sources[hand, point] for point in HAND_POINTS}) == 21


def test_pose_format_names_the_same_points():
    """pose-format's own knowledge of shoulders, wrists and middle knuckles agrees with the tables."""
    for estimator in list(ESTIMATORS.values())[:5]:
        pose = made(estimator)
        right, left = generic.pose_shoulders(pose.header)
        assert estimator.sources[POSE, "RIGHT_SHOULDER"] == right
        assert estimator.sources[POSE, "LEFT_SHOULDER"] == left
        if estimator.name != "openpose_135":
            for side, hand in (("LEFT", LEFT_HAND), ("RIGHT", RIGHT_HAND)):
                source = estimator.sources[hand, "WRIST"]
                assert pose.header.get_point_index(*source) == generic.get_hand_wrist_index(pose, side)
            assert [
                pose.header.get_point_index(*estimator.sources[hand, "MIDDLE_FINGER_MCP"])
                for hand in (LEFT_HAND, RIGHT_HAND)
            ] == generic.hands_indexes(pose.header)
        assert estimator_of(estimator.points) is estimator


def test_missing_components_and_other_points(tmp_path):
    estimator = ESTIMATORS["coco_wholebody_133"]
    pose = made(estimator).get_components(["BODY", "RIGHT_HAND"])
    clip = read_pose(write(tmp_path / "part.pose", pose))
    assert set(clip.layout.components) == {POSE, RIGHT_HAND}
    for change, said in (
        (lambda header: header.components[0].points.__setitem__(0, "beak"), "beak.*expected"),
        (lambda header: setattr(header.components[0], "format", "XYZC"), "format 'XYZC'; expected XYC"),
        (lambda header: header.components.append(header.components[0]), "twice"),
    ):
        other = made(estimator)
        change(other.header)
        with pytest.raises(UserError, match=said) as caught:
            from_pose(other)
        assert "\n" not in str(caught.value)
    feet = made(estimator).get_components(["BODY"], {"BODY": ["left_heel"]})
    with pytest.raises(UserError, match="none of the points of COCO-WholeBody 133"):
        from_pose(feet)


@EVERY
def test_nonfinite_points_and_truncated_files_are_refused(tmp_path, estimator):
    pose = made(estimator)
    pose.body.confidence[3, 0, 4], pose.body.data.data[3, 0, 4, 1] = 1, np.nan
    pose.body.data.mask[3, 0, 4] = False
    path = write(tmp_path / "nan.pose", pose)
    with pytest.raises(UserError, match=r"nan.pose: 1 coordinates are NaN.*frame 3"):
        read_pose(path)
    whole = write(tmp_path / "a.pose", made(estimator)).read_bytes()
    for content, said in ((whole[:-1], "truncated"), (whole + b"\0", "other bytes follow")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            read_pose(path)


@EVERY
@pytest.mark.parametrize("version", [0.0, 0.1])
def test_older_versions(tmp_path, estimator, version):
    pose = made(estimator)
    content = write(tmp_path / "new.pose", pose).read_bytes()
    numbers = 7 * len(estimator.points) * 3 * 4
    head, floats = content[4 : -numbers - 10], content[-numbers:]
    if version == 0:
        points = np.concatenate([pose.body.data.filled(0), pose.body.confidence[..., None]], axis=3)
        frames = b"".join(struct.pack("<Hh", 1, 0) + frame.astype("<f4").tobytes() for frame in points[:, 0])
        content = struct.pack("<f", version) + head + struct.pack("<HH", 25, 7) + frames
    else:
        content = struct.pack("<f", version) + head + struct.pack("<HHH", 25, 7, 1) + floats
    path = tmp_path / "old.pose"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_pose(path).data, from_pose(pose).data)


@settings(
    max_examples=FUZZ_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_fuzz_of_other_estimators_raises_only_user_errors(tmp_path, data):
    estimator = data.draw(st.sampled_from(list(ESTIMATORS.values())))
    path = tmp_path / "fuzz.pose"
    content = bytearray(stored(estimator.name))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.one_of(st.integers(0, 40), st.integers(0, len(content) - 1)))
        content[start : start + 4] = data.draw(st.binary(max_size=8))
    path.write_bytes(content)
    try:
        clip = read_pose(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert isinstance(clip, PoseClip) and np.isfinite(clip.data).all()
