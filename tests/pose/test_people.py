"""Which of several people is read."""

import numpy as np
import pytest
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody

from mmpt.pose import frames as frames_module
from mmpt.pose.components import HAND_POINTS, LEFT_HAND, POSE, RIGHT_HAND, WORLD
from mmpt.pose.people import LOST_FRAMES, RULES, choose_people
from mmpt.pose.reader import from_pose, read_file, read_pose
from tests.pose.pose_fakes import POINTS, fake_clip, header, layout


def squares(*people: list[tuple[float, float, float] | None]) -> tuple[np.ndarray, np.ndarray]:
    """Each person as (x, y, side) of each frame, None where it is missing; four points, the corners."""
    data = np.zeros((len(people[0]), len(people), 4, 3), np.float32)
    trust = np.zeros(data.shape[:3], np.float32)
    for number, frames in enumerate(people):
        for frame, square in enumerate(frames):
            if square is not None:
                x, y, side = square
                data[frame, number, :, :2] = [[x, y], [x + side, y], [x, y + side], [x + side, y + side]]
                trust[frame, number] = 0.5
    return data, trust


def test_first_is_the_first_even_if_it_is_missing():
    data, trust = squares([None, (0, 0, 1)], [(5, 5, 9), (5, 5, 9)])
    choice = choose_people(data, trust)
    assert choice.person.tolist() == [0, 0] and choice.counts.tolist() == [1, 2]


def test_largest_is_chosen_in_each_frame():
    data, trust = squares([(0, 0, 5), (0, 0, 5), None, None], [(9, 9, 4), (9, 9, 6), (9, 9, 1), None])
    choice = choose_people(data, trust, "largest")
    assert choice.person.tolist() == [0, 1, 1, -1] and choice.counts.tolist() == [2, 2, 1, 0]
    taken = choice.take(data)
    np.testing.assert_array_equal(taken[1], data[1, 1])
    assert not taken[3].any() and not choice.take(trust)[3].any()


def test_tracked_follows_one_person_though_the_order_changes_and_another_grows():
    signer = [(0 + frame, 0, 10) for frame in range(6)]
    other = [(50 - frame, 0, 5 + 3 * frame) for frame in range(6)]
    swapped = [(signer, other)[frame % 2][frame] for frame in range(6)]
    rest = [(other, signer)[frame % 2][frame] for frame in range(6)]
    choice = choose_people(*squares(swapped, rest), "tracked")
    assert choice.person.tolist() == [0, 1, 0, 1, 0, 1]
    assert choose_people(*squares(swapped, rest), "largest").person.tolist() != choice.person.tolist()


def test_tracked_waits_for_a_person_that_is_missing_and_gives_up_at_last():
    for missing in (3, LOST_FRAMES - 1, LOST_FRAMES, LOST_FRAMES + 4):
        signer = [None, (0, 0, 10), *[None] * missing, (1, 0, 10), (1, 0, 10)]
        choice = choose_people(*squares(signer, [None, *[(50, 0, 5)] * (missing + 3)]), "tracked")
        there = min(missing, LOST_FRAMES)
        assert choice.person[: 2 + there].tolist() == [-1, 0, *[-1] * there]
        assert set(choice.person[2 + there :]) == ({0} if missing <= LOST_FRAMES else {1})


def test_tracked_follows_a_person_of_a_single_point():
    data, trust = squares([(5, 5, 0), (5, 5, 9), (8, 8, 0), (8, 8, 0)], [None, (500, 500, 90)] * 2)
    assert choose_people(data, trust, "tracked").person.tolist() == [0, 0, 0, 0]


def test_tracked_does_not_follow_a_neighbour_that_touches():
    data, trust = squares([(0, 0, 100), None], [(100, 0, 80), (100, 0, 80)])
    assert choose_people(data, trust, "tracked").person.tolist() == [0, -1]


@pytest.mark.parametrize("rule", RULES)
def test_whatever_the_order_of_the_people_the_same_person_is_chosen(rule):
    rng = np.random.default_rng(3)
    data = rng.uniform(0, 100, (20, 3, 7, 3)).astype(np.float32)
    trust = rng.choice([0, 0.4, 1], (20, 3, 7)).astype(np.float32)
    trust[rng.random((20, 3)) < 0.2] = 0
    data[trust == 0] = np.nan
    base = choose_people(data, trust, rule)
    order = np.array([2, 0, 1])
    other = choose_people(data[:, order], trust[:, order], rule)
    np.testing.assert_array_equal(base.counts, (trust > 0).any(axis=2).sum(axis=1))
    if rule != "first":
        np.testing.assert_array_equal(base.take(trust), other.take(trust[:, order]))
        assert ((base.person < 0) | (trust[np.arange(20), base.person] > 0).any(axis=1)).all()


def test_no_frames():
    for rule in RULES:
        choice = choose_people(np.zeros((0, 2, 4, 3)), np.zeros((0, 2, 4)), rule)
        assert choice.person.shape == choice.counts.shape == (0,)


def two_people(tmp_path):
    """A file whose second person is the larger one, and the clips of both."""
    names = layout()
    small, large = fake_clip(seed=1, missing=0, layout=names), fake_clip(seed=2, missing=0, layout=names)
    large = large.with_data(large.data * 4)
    data, trust = (np.stack([getattr(c, n) for c in (small, large)], axis=1) for n in ("data", "confidence"))
    path = tmp_path / "two.pose"
    pose = Pose(header(names), NumPyPoseBody(25.0, data, trust))
    with open(path, "wb") as file:
        pose.write(file)
    return path, pose, small, large


def test_the_reader_takes_the_chosen_person(tmp_path, caplog):
    frames_module._warned["people"] = 0
    path, pose, small, large = two_people(tmp_path)
    for rule, clip in (("first", small), ("largest", large), ("tracked", large)):
        np.testing.assert_array_equal(read_pose(path, person=rule).data, clip.data)
        np.testing.assert_array_equal(from_pose(pose, rule).confidence, clip.confidence)
        part = read_pose(path, [RIGHT_HAND], rule)
        np.testing.assert_array_equal(part.data, clip.component(RIGHT_HAND)[0])
    assert read_file(path).counts.tolist() == [2] * 12
    first, tenth = (record.getMessage() for record in caplog.records)
    assert "2 people" in first and "dataset.person: first (could be largest or tracked)" in first
    assert "10 poses hold several people" in tenth


def test_nan_of_a_person_that_is_not_read_does_no_harm(tmp_path):
    path, pose, _, large = two_people(tmp_path)
    pose.body.data[0, 0, 0, 0] = np.inf
    with open(path, "wb") as file:
        pose.write(file)
    np.testing.assert_array_equal(read_pose(path, person="tracked").data, large.data)


def test_world_landmarks_are_in_metres_and_do_not_count(tmp_path):
    names = layout(POSE, LEFT_HAND, RIGHT_HAND)
    points = [*names.points, *((WORLD, point) for point in POINTS[POSE])]
    names = type(names).of(points)
    a, b = fake_clip(seed=1, missing=0, layout=names), fake_clip(seed=2, missing=0, layout=names)
    a.data[:, names.component_slice(WORLD)] *= 1000
    b = b.with_data(b.data * 2)
    data, trust = (np.stack([getattr(c, n) for c in (a, b)], axis=1) for n in ("data", "confidence"))
    clip = from_pose(Pose(header(names), NumPyPoseBody(25.0, data, trust)), "largest")
    np.testing.assert_array_equal(clip.data, b.data)
    assert len(HAND_POINTS) == 21
