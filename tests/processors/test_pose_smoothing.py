"""dataset.person, fill_gaps and smooth from the config to features, cache key, settings and model folder."""

import dataclasses
import logging

import numpy as np
import pytest

from mmpt.config.compare import embedding_settings
from mmpt.config.dataset_options import ClipStorage, PoseOptions
from mmpt.config.schema import DatasetConfig, ModelConfig
from mmpt.pose.components import RIGHT_HAND
from mmpt.pose.reader import parse_pose
from mmpt.pose.smoothing import Smoothing, fill_gaps
from mmpt.processors.example import Example
from mmpt.processors.pose_video import PoseProcessor
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import fake_clip, write_pose

ON = [{"person": "largest"}, {"fill_gaps": 2}, {"smooth": "savgol"}, {"smooth": "one_euro"}]


def processor(**options) -> PoseProcessor:
    return PoseProcessor(PoseOptions(pose_components=[RIGHT_HAND], **options))


def dataset(**options) -> DatasetConfig:
    required = {"meta_processor": "M", "video_processor": "V", "max_video_len": 9, "max_len": 9}
    return DatasetConfig(**required, **options)


def test_off_they_are_in_no_key_and_on_each_makes_another():
    assert not {"person", "people", "smoothing"} & set(processor().prepare.key())
    assert processor(person="tracked").prepare.key()["people"] == 2
    usual = embedding_settings(dataset(), ModelConfig())
    assert set(usual) == {"video_processor", "max_video_len", "max_len"}
    others = [*ON, {"smooth": "savgol", "smooth_window": 300.0}, {"smooth": "one_euro", "smooth_beta": 9.0}]
    keys = [str(processor(**options).prepare.key()) for options in [{}, *others]]
    assert len(set(keys)) == len(keys)
    for options in others:
        assert embedding_settings(dataset(**options), ModelConfig()) == usual | options


def test_parameters_of_another_filter_change_no_key_and_are_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        made = processor(smooth="savgol", smooth_beta=9.0)
    assert made.prepare == processor(smooth="savgol").prepare
    assert "smooth_beta has no effect: it is for smooth: one_euro" in caplog.text


def test_fill_gaps_without_hands_is_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        PoseProcessor(PoseOptions(pose_components=["POSE_LANDMARKS"], fill_gaps=2))
    assert "fill_gaps has no effect" in caplog.text


@pytest.mark.parametrize("options, said", [({"person": "second"}, "tracked"), ({"smooth": "mean"}, "savgol")])
def test_unknown_values_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        processor(**options)


@pytest.mark.parametrize(
    "options", [{"fill_gaps": 2}, {"fill_gaps": 3, "smooth": "savgol"}, {"smooth": "one_euro"}]
)
def test_every_way_into_the_model_is_smoothed(tmp_path, options):
    clip = fake_clip(30, missing=0.3)
    path = write_pose(tmp_path / "a.pose", clip)
    made, plain = processor(**options), processor()
    expected = made.prepare.smoothing(plain.prepare(path)).data
    assert not np.array_equal(expected, plain.prepare(path).data)
    np.testing.assert_array_equal(made.prepare(path).data, expected)
    np.testing.assert_array_equal(made.prepare.clip(clip).data, expected)
    np.testing.assert_array_equal(made.prepare.parse(path.read_bytes(), 99).data, expected)
    storage = ClipStorage(cache_dir=str(tmp_path / "cache"))
    source = made.open([Example("a", "A", path)], storage)
    np.testing.assert_array_equal(source.features(0, None), expected.reshape(30, -1))
    plain_source = plain.open([Example("a", "A", path)], storage)
    assert not np.array_equal(plain_source.features(0, None), source.features(0, None))


def test_the_batch_has_no_influence(tmp_path):
    made = processor(fill_gaps=3, smooth="savgol")
    clips = [made.prepare.clip(fake_clip(frames, seed)) for seed, frames in enumerate((1, 7, 30))]
    for alone, together in zip(map(made.features, clips), made.features_of(clips)):
        np.testing.assert_array_equal(alone, together)


def test_parse_is_clip_of_parse_pose(tmp_path):
    for seed, options in ((0, {}), (1, {"flip_pose": "right"}), (2, {"scale_depth": True})):
        content = write_pose(tmp_path / "a.pose", fake_clip(9, seed)).read_bytes()
        prepare = processor(**options).prepare
        for mirror in (False, True):
            expected = prepare.clip(parse_pose(content), mirror)
            np.testing.assert_array_equal(prepare.parse(content, 9, mirror).data, expected.data)
        with pytest.raises(UserError, match="9 frames; at most 8"):
            prepare.parse(content, 8)


def test_a_presence_feature_counts_filled_frames():
    made = processor(fill_gaps=5, presence=True)
    clip = fake_clip(30, missing=0.3)
    filled = fill_gaps(clip, 5).component(RIGHT_HAND)[1].any(axis=1)
    assert filled.sum() > clip.component(RIGHT_HAND)[1].any(axis=1).sum()
    np.testing.assert_array_equal(made.features(made.prepare.clip(clip))[:, -1], filled)


def test_smoothing_is_a_value():
    options = PoseOptions(fill_gaps=2, smooth="savgol")
    assert Smoothing.of(options) == Smoothing.of(dataclasses.replace(options))
