"""A window equals the same span read as a clip of its own."""

import numpy as np
import pytest
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody

from mmpt.config.dataset_options import PoseOptions
from mmpt.pose.components import FACE, HANDS, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.span import Span
from mmpt.processors import PoseProcessor
from mmpt.spotting import Recording, Targets, Unread, WindowGrid, embed_windows, scores, window_scores
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import fake_clip, without, write_pose

OPTIONS = {
    "body": {},
    "depth": {"scale_depth": True, "pose_components": [POSE, *HANDS]},
    "palm": {"hand_frame": "palm_shape", "pose_components": [RIGHT_HAND], "clip_window": [0.25, 0.75]},
    "mirrored": {"flip_pose": "right", "pose_components": [RIGHT_HAND], "velocity": True, "clip_frames": 5},
    "normalised": {"normalize_hand": True, "pose_components": [RIGHT_HAND], "presence": True},
    "smooth": {"fill_gaps": 2, "smooth": "savgol", "clip_frames": 7},
    "canonical": {"pose_layout": "canonical", "hand_frame": "palm", "smooth": "one_euro"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("mirror", [False, True])
def test_features_of_windows_are_those_of_clips(tmp_path, options, mirror):
    clip = fake_clip(61, n_face=468)
    clip.data[:, :, 2] *= np.linspace(0.001, 0.1, 61)[:, None]  # z to scale in a part only
    blank = without(clip, *HANDS)
    clip.data[30:40], clip.confidence[30:40] = blank.data[30:40], blank.confidence[30:40]
    path = write_pose(tmp_path / "a.pose", clip)
    prepare = PoseProcessor(PoseOptions(**options))
    spans = WindowGrid((0.04, 0.3, 0.8, 9), 0.12).spans(61, 25)
    assert len(spans) > 40 and [0, 61] in spans.tolist()
    windows = prepare.prepare.windows(
        prepare.prepare.read(path), [slice(*span) for span in spans.tolist()], mirror
    )
    got = prepare.features_of(windows)
    for (start, stop), features in zip(spans.tolist(), got, strict=True):
        expected = prepare(path, mirror=mirror, span=Span(start, stop, "frames"))
        np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5)


def test_embeddings_of_windows_are_those_of_clips(model, joined, tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "_FRAMES_AT_ONCE", 17)
    recording, unread = Recording(model, joined), Unread()
    grid = WindowGrid((0.3, 1.0), 0.25)
    blocks = list(embed_windows(model, recording, grid, unread))
    spans, vectors = (np.concatenate(part) for part in zip(*blocks))
    assert np.array_equal(spans, grid.spans(recording.count, recording.fps)) and len(blocks) > 4
    pose, checked = Pose.read(joined.read_bytes()), 0
    for number, (start, stop) in enumerate(spans.tolist()):
        if np.isnan(vectors[number]).any():
            continue
        body = NumPyPoseBody(25, pose.body.data[start:stop], pose.body.confidence[start:stop])
        with open(tmp_path / "span.pose", "wb") as file:
            Pose(pose.header, body).write(file)
        expected = model.embed_pose([tmp_path / "span.pose"])[0]
        np.testing.assert_allclose(vectors[number], expected, rtol=0, atol=1e-5)
        checked += 1
    assert checked == unread.windows - unread.blank - unread.bad == len(spans) - unread.blank - unread.bad
    assert unread.bad > 0 and "shoulders" in unread.first_error and checked > 20
    targets = Targets.of(["a", "b", "a"], model.embed_text(["A", "B", "C"]))
    together = np.concatenate([s for _, s in window_scores(model, recording, targets, grid)])
    there = ~np.isnan(vectors[:, 0])
    expected = targets.of(["1", "2", "3"], model.embed_text(["A", "B", "C"])).scores(vectors[there])
    assert np.array_equal(together[there], np.stack([expected[:, [0, 2]].max(1), expected[:, 1]], 1))
    assert np.isnan(together[~there]).all()


def test_windows_by_hand():
    assert WindowGrid((0.4,), 0.2).spans(17, 10).tolist() == [
        *([0, 4], [2, 6], [4, 8], [6, 10], [8, 12], [10, 14], [12, 16], [13, 17])
    ]
    assert WindowGrid((1, 2, 1), 5).spans(7, 10).tolist() == [[0, 7]]
    assert WindowGrid((0.001,), 0.001).spans(3, 10).tolist() == [[0, 1], [1, 2], [2, 3]]
    for lengths, step in (((), 1), ((0,), 1), ((1,), 0), ((1, float("nan")), 1), ((1,), float("inf"))):
        with pytest.raises(UserError, match="expected numbers of seconds above 0"):
            WindowGrid(lengths, step)


def test_other_files_are_refused(model, tmp_path):
    (tmp_path / "a.npy").write_bytes(b"")
    for name, words in (("a.npy", "reads .pose files"), ("a.mp4", "is a video"), ("no.pose", "no.pose: ")):
        with pytest.raises(UserError, match=words):
            Recording(model, tmp_path / name)
    nobody = without(fake_clip(40), POSE, LEFT_HAND)
    recording = Recording(model, write_pose(tmp_path / "nobody.pose", nobody))
    with pytest.raises(UserError, match=r"none of its \d+ windows can be read: none of the .* shoulders"):
        list(embed_windows(model, recording, WindowGrid()))
    assert FACE not in nobody.layout.components
