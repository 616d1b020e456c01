"""A model of the canonical layout embeds poses of all estimators, and says so."""

import numpy as np
import pytest

from mmpt.embedding.onnx_preprocessing import describe
from mmpt.pose.components import CANONICAL_POINTS, FACE
from mmpt.utils.errors import UserError
from scripts.relabel_lexicon import relabelled
from tests.cli.test_export import make_model
from tests.pose.pose_fakes import as_pose, fake_clip

LAYOUT = ["dataset.pose_layout=canonical", "dataset.pose_components=null", "model.vfeat_dim=228"]


@pytest.fixture
def model(tiny_yaml):
    return make_model(tiny_yaml, *LAYOUT)


def test_vectors_do_not_depend_on_the_estimator(model, tiny_yaml):
    clip = fake_clip(n_face=478)
    poses = [relabelled(clip, name, 400) for name in ("coco_wholebody_133", "openpose_137", "alphapose_136")]
    found = model.embed_pose([as_pose(clip), *poses])
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), atol=1e-5)
    with pytest.raises(UserError, match=r"pose number 0: there is no component FACE_LANDMARKS"):
        model.embed_pose([relabelled(clip, "sapiens_308", 400)])
    with pytest.raises(UserError, match=r"pose number 1: the pose is 2-D.*pose_layout: canonical"):
        make_model(tiny_yaml).embed_pose([as_pose(clip), *poses])


def test_the_export_describes_the_layout(model):
    features = describe(model, [])["video"]["features"]
    assert features["coordinates"] == ["x", "y"] and features["dim"] == 228
    assert features["points"][FACE] == list(CANONICAL_POINTS[FACE])
    assert "scale_depth" not in features["steps"] and "in x and y" in features["steps"]["shoulders"]
    assert "any estimator" in features["source"]
