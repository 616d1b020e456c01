import json
import pickle

import numpy as np
import pytest

from mmpt.config.dataset_options import FrameFeatures
from mmpt.pose.clip import PoseLayout
from mmpt.pose.components import (
    FACE,
    LEFT_HAND,
    POSE,
    REDUCED_FACE_POINTS,
    RIGHT_HAND,
    select_components,
)
from mmpt.pose.features import PoseFeatures
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import fake_clip, layout


def feature_dim(pose_components, n_face=468):
    return PoseFeatures(pose_components, FrameFeatures()).dim(n_face)


def test_feature_dimension_of_the_published_features():
    assert feature_dim(None) == 1629
    assert feature_dim(None, 478) == 1659
    assert feature_dim("reduced_face") == feature_dim("reduced_face", 478) == 609
    assert feature_dim([RIGHT_HAND]) == 63


def test_reduced_face_names_are_those_of_the_reference(shared_reference):
    info = json.loads((shared_reference / "pose" / "info.json").read_text())
    assert list(REDUCED_FACE_POINTS) == info["reduced_face_point_order"]


def test_selection_keeps_the_order_of_the_config():
    clip = fake_clip()
    chosen = select_components(clip, [RIGHT_HAND, POSE])
    assert chosen.layout.components == (RIGHT_HAND, POSE)
    np.testing.assert_array_equal(chosen.data[:, :21], clip.component(RIGHT_HAND)[0])
    np.testing.assert_array_equal(chosen.component(POSE)[1], clip.component(POSE)[1])


def test_face_points_468_selects_from_478():
    clip = fake_clip(n_face=478)
    assert select_components(clip, None).data.shape[1] == 553
    assert select_components(clip, None, 468).data.shape[1] == 543
    with pytest.raises(UserError, match="face_points"):
        select_components(fake_clip(n_face=468), None, 478)


def test_points_are_selected_by_name():
    clip = fake_clip()
    backwards = clip.select(np.arange(len(clip.layout))[::-1].copy(), PoseLayout.of(clip.points[::-1]))
    np.testing.assert_array_equal(
        select_components(backwards, [LEFT_HAND]).data, select_components(clip, [LEFT_HAND]).data
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["RIGHT_HAND"], "RIGHT_HAND_LANDMARKS"),
        ("reduced_fase", "reduced_face"),
        (["reduced_face"], "'reduced_face' is not known"),
        (RIGHT_HAND, "a list of"),
        ([], "empty"),
        ([POSE, POSE], "twice"),
    ],
)
def test_unknown_components_suggest_the_nearest_name(value, said):
    with pytest.raises(UserError, match=said):
        feature_dim(value)


def test_a_missing_component_is_refused():
    with pytest.raises(UserError, match=f"no component {FACE}"):
        select_components(fake_clip(), None)


def test_a_component_with_missing_points_is_refused():
    thin = PoseLayout.of([p for p in layout().points if p != (RIGHT_HAND, "THUMB_TIP")])
    with pytest.raises(UserError, match=r"20 points and lacks 1 of the 21 .*THUMB_TIP"):
        select_components(fake_clip(layout=thin), [RIGHT_HAND])


def test_equal_layouts_are_one_object_after_pickling():
    one = layout()
    assert PoseLayout.of(one.points) is one
    assert pickle.loads(pickle.dumps(one)) is one
    clip = pickle.loads(pickle.dumps(fake_clip()))
    assert clip.layout is one and clip.index(POSE, "NOSE") == 0


def test_duplicate_point_names_are_refused():
    with pytest.raises(UserError, match="WRIST"):
        PoseLayout.of([(LEFT_HAND, "WRIST"), (LEFT_HAND, "WRIST")])
