import numpy as np
import pytest

from mmpt.pose.clip import PoseClip
from mmpt.pose.reader import read_pose
from mmpt.pose.span import Span
from mmpt.pose.store import PoseStore, StoreRequest
from tests.pose.pose_fakes import fake_clip, write_pose


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (Span(0, 7, "frames"), "0-7 frames"),
        (Span(400.0, None, "ms"), "400-end ms"),
        (Span(100, 250.5, "ms"), "100-250.5 ms"),
        (Span(1234567.0, 1234890.0, "ms"), "1234567-1234890 ms"),
        (Span(1234567.25, 1234567.5, "ms"), "1234567.25-1234567.5 ms"),
    ],
)
def test_span_to_string(span, said):
    assert str(span) == said


@pytest.mark.parametrize(("first", "second"), [(1234567, 1234569), (1234567.25, 1234567.5)])
def test_spans_of_a_long_recording_have_different_store_keys(tmp_path, first, second):
    path = write_pose(tmp_path / "a.pose", fake_clip(frames=6))
    asked = []

    def prepare(path, mirror=False, span=None) -> PoseClip:
        asked.append(span.start)
        return read_pose(path)

    for start in (first, second, first):
        spans = [Span(start, 2e6, "ms")]
        PoseStore.build_or_open(StoreRequest([path], {}, prepare, tmp_path / "cache", spans=spans))
    assert asked == [first, second]


def test_frames_of_a_span():
    span = Span(400, 800, "ms")
    assert np.arange(100)[span.frames(100, 25.0)].tolist() == list(range(10, 20))
