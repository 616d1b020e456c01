import numpy as np
import pytest

from mmpt.pose import span as span_module
from mmpt.pose.clip import PoseClip
from mmpt.pose.preparation import PosePreparation
from mmpt.pose.reader import read_pose
from mmpt.pose.span import Span
from mmpt.pose.store import PoseStore, StoreRequest
from mmpt.processors.npy_video import VideoProcessor
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


def test_a_span_that_ends_after_the_recording_is_a_warning_once(tmp_path, monkeypatch, caplog):
    """A frame more is rounding. 100 frames at 25 per second are 4000 ms."""
    assert [Span(0, end, "ms").cut_at(100, 25.0) for end in (4000, 4040, 4041, 9500)] == [
        None,
        None,
        4000,
        4000,
    ]
    assert [Span(0, end, "frames").cut_at(100, None) for end in (None, 101, 102)] == [None, None, 100]
    monkeypatch.setitem(span_module._warned, "end", False)
    path = write_pose(tmp_path / "a.pose", fake_clip(frames=6))
    for span in (Span(40, 280, "ms"), Span(40, 999, "ms"), Span(40, 2000, "ms")):
        assert len(PosePreparation(["RIGHT_HAND_LANDMARKS"])(path, span=span)) == 5
    (warning,) = caplog.messages
    said = f"{path}: the part 40-999 ms ends after the recording, which has 240 ms: it is cut there; "
    assert warning.startswith(said)
    caplog.clear()
    np.save(tmp_path / "a.npy", np.ones((6, 2)))
    monkeypatch.setitem(span_module._warned, "end", False)
    assert len(VideoProcessor()(tmp_path / "a.npy", span=Span(1, 9, "frames"))) == 5
    assert "the part 1-9 frames ends after the recording, which has 6 frames" in caplog.text
