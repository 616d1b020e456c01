import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mmpt.extractors.video import Video, cached_pictures
from mmpt.utils.errors import UserError
from tests.extractors.videos import number, remux, with_edit_list, write_audio, write_video


def read(path: Path) -> tuple[list[Fraction], list[np.ndarray], Video]:
    with Video(path) as video:
        pairs = [(time, video.picture(frame, video.width, video.height)) for time, frame in video.frames()]
    return [time for time, _ in pairs], [picture for _, picture in pairs], video


def sampled(path: Path, fps: Fraction | int) -> list[int]:
    with Video(path) as video:
        frames = video.sampled(Fraction(fps))
        numbers = [number(p) for p in cached_pictures(video, frames, video.width, video.height, "bilinear")]
        assert len(numbers) == video.sampled_count(Fraction(fps))
    return numbers


def by_ffmpeg(path: Path, fps: Fraction | int) -> list[int]:
    """The same by FFmpeg's own filter."""
    numbers = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        ends = graph.add_buffer(template=stream), graph.add("fps", str(fps)), graph.add("buffersink")
        graph.link_nodes(*ends).configure()
        for picture in [*container.decode(stream), None]:
            graph.vpush(picture)
            while True:
                try:
                    numbers.append(number(graph.vpull().to_ndarray(format="rgb24")))
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
    return numbers


CONTAINERS = {
    "a.mp4": {},
    "a.mpg": {"codec": "mpeg1video"},
    "a.avi": {},
    "a.mkv": {"codec": "libx264"},
    "a.webm": {"codec": "libvpx", "options": {"b": "1M"}},
    "a.ts": {"codec": "mpeg2video"},
    "a.h264": {"codec": "libx264"},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_video_frames_of_any_container(tmp_path, name):
    times, pictures, video = read(write_video(tmp_path / name, 30, **CONTAINERS[name]))
    assert [number(picture) for picture in pictures] == [index % 18 for index in range(30)]
    assert (video.width, video.height, video.rate, video.decoded.notes) == (64, 48, 25, [])
    if name != "a.mpg":  # FFmpeg miscounts pictures smaller than a packet of MPEG's
        assert [float(time) for time in times] == pytest.approx([index / 25 for index in range(30)], abs=1e-3)
        assert float(video.decoded.seconds) == pytest.approx(1.2, abs=1e-3)
        assert not video.decoded.variable_rate


@pytest.mark.parametrize("fps", [30, 25, 12, 50, Fraction(30000, 1001), Fraction(1, 10)])
@pytest.mark.parametrize("rate", [25, 24, Fraction(30000, 1001)])
def test_video_resampling_equals_ffmpeg(tmp_path, rate, fps):
    path = write_video(tmp_path / "a.mp4", 37, rate)
    assert sampled(path, fps) == (by_ffmpeg(path, fps) or [0])  # ours gives at least one picture


def test_video_variable_frame_rate(tmp_path):
    times = [Fraction(t, 1000) for t in (0, 40, 80, 400, 410, 420, 1000, 1040, 1080, 1120)]
    path = write_video(tmp_path / "a.mkv", len(times), times=times)
    stamps, _, video = read(path)
    assert stamps == times and video.decoded.variable_rate
    # a picture stays until the next; the last as long as the stated rate says
    assert sampled(path, 20) == by_ffmpeg(path, 20)


@pytest.mark.parametrize("forward", [True, False])
def test_video_time_stamp_discontinuity(tmp_path, forward):
    """Two files end to end. FFmpeg takes the step back for an overflow: a day forward."""
    early = write_video(tmp_path / "a.ts", 12, codec="mpeg2video")
    parts = [early, remux(early, tmp_path / "b.ts", later=7200)]
    both = tmp_path / "c.ts"
    both.write_bytes(b"".join(part.read_bytes() for part in (parts if forward else parts[::-1])))
    assert sampled(both, 25) == [*range(12), *range(12)]
    with Video(both) as video:
        assert len(list(video.frames())) == 24
        assert "time stamps jump" in video.decoded.notes[0]


def test_video_long_pause_in_a_container_without_discontinuities(tmp_path):
    times = [Fraction(t) for t in (0, 1, 14, 15)]
    path = write_video(tmp_path / "a.mkv", 4, times=times)
    assert sampled(path, 1) == [0, *[1] * 13, 2]


def test_video_of_one_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", 1)
    assert sampled(path, 30) == [0]


@pytest.mark.parametrize("rotation, red", [(90, (-1, 0)), (180, (-1, -1)), (270, (0, -1)), (-90, (0, -1))])
def test_video_rotation_tag(tmp_path, rotation, red):
    """Counter-clockwise by so many degrees: where the red top left corner goes."""
    path = write_video(tmp_path / "a.mp4", 3, rotation=rotation, corner=(255, 0, 0))
    with Video(path) as video:
        assert (video.width, video.height) == ((48, 64) if rotation % 180 else (64, 48))
        picture = video.picture(next(video.frames())[1], video.width, video.height)
    assert picture.shape == (video.height, video.width, 3)
    reds = [(y, x) for y in (0, -1) for x in (0, -1) if picture[y, x, 0] > 200 and picture[y, x, 1] < 60]
    assert reds == [red]


ONE = 1 << 16
MATRICES = {  # x' = a x + c y, y' = b x + d y: where the top left corner goes (row, column)
    "upright": ((ONE, 0, 0, ONE), (0, 0)),
    "turned by 180 degrees": ((-ONE, 0, 0, -ONE), (1, 1)),
    "horizontal flip": ((-ONE, 0, 0, ONE), (0, 1)),
    "vertical flip": ((ONE, 0, 0, -ONE), (1, 0)),
    "clockwise": ((0, ONE, -ONE, 0), (0, 1)),
    "counter-clockwise": ((0, -ONE, ONE, 0), (1, 0)),
    "transpose": ((0, ONE, ONE, 0), (0, 0)),
    "other diagonal": ((0, -ONE, -ONE, 0), (1, 1)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_video_display_matrix(tmp_path, name):
    matrix, (row, column) = MATRICES[name]
    path = write_video(tmp_path / "a.mp4", 2, matrix=matrix, corner=(255, 0, 0))
    _, pictures, video = read(path)
    turned = not matrix[0]
    assert (video.width, video.height) == ((48, 64) if turned else (64, 48))
    height, width = pictures[0].shape[:2]
    assert (height, width) == (video.height, video.width)
    red = pictures[0][..., 0] > pictures[0][..., 1] + 100
    assert np.argwhere(red).mean(axis=0) == pytest.approx(
        [(row + 0.5) * height / 2, (column + 0.5) * width / 2], abs=2
    )
    assert json.loads(json.dumps(video.facts()))["mirrored"] == (
        matrix[0] * matrix[3] - matrix[1] * matrix[2] < 0
    )


def test_video_frame_rate_is_that_of_the_time_stamps(tmp_path):
    """As browsers record: the encoder declares 1000 frames per second."""
    times = [Fraction(index, 30) for index in range(31)]
    path = write_video(tmp_path / "a.webm", 31, 1000, codec="libvpx", options={"b": "1M"}, times=times)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 1000
    _, _, video = read(path)
    assert float(video.rate) == pytest.approx(30, rel=1e-3)
    assert "declares 1000 frames per second, its time stamps give 30" in video.decoded.notes[0]
    assert sampled(path, 15) == by_ffmpeg(path, 15)


@pytest.mark.parametrize("rate", [Fraction(59, 2), Fraction(30000, 1001)])
def test_video_frame_rate_is_right_at_the_end_of_a_long_recording(tmp_path, rate):
    """29.5 frames per second, declared as 30: 1.3 s off after 80 s. 29.97, rounded to ms, stays."""
    times = [index / rate for index in range(300)]
    declared = 30 if rate == Fraction(59, 2) else rate
    path = write_video(tmp_path / "a.webm", 300, declared, (16, 16), codec="libvpx", times=times)
    _, _, video = read(path)
    assert abs(float(video.rate) - float(rate)) * 80 < 0.2
    assert len(video.decoded.notes) == (declared == 30)


def test_video_notes_what_is_guessed(tmp_path):
    """An odd rotation, several streams, pictures of several sizes."""
    half = 46341
    write_video(tmp_path / "a.mp4", 2, matrix=(half, half, -half, half))
    write_video(tmp_path / "b.mp4", 2, matrix=(half, half // 8, -half // 8, half))
    first = write_video(tmp_path / "c.ts", 3, codec="mpeg2video")
    second = write_video(tmp_path / "d.ts", 3, size=(96, 64), codec="mpeg2video")
    (tmp_path / "e.ts").write_bytes(first.read_bytes() + second.read_bytes())
    with av.open(str(tmp_path / "f.mkv"), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for stream in streams:
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
            container.mux(stream.encode())
    notes = {
        name: " ".join(read(tmp_path / name)[2].decoded.notes) for name in ("a.mp4", "b.mp4", "e.ts", "f.mkv")
    }
    assert "rotated by 315 degrees; it was rotated by" in notes["a.mp4"]
    assert "rotated by 353 degrees; it was rotated by 0" in notes["b.mp4"]
    assert "pictures have 2 sizes; all were scaled to 64x48" in notes["e.ts"]
    assert "2 video streams; number 0 was read" in notes["f.mkv"]


def test_video_edit_list_is_no_truncation(tmp_path):
    path = write_video(tmp_path / "a.mp4", 75, options={"g": "1"})
    _, pictures, video = read(with_edit_list(path, tmp_path / "b.mp4", 10, 50))
    assert [number(picture) for picture in pictures] == [n % 18 for n in range(10, 60)]
    assert video.decoded.notes == [] and video.rate == 25
    cut = tmp_path / "c.mp4"  # truncated as well
    remux(path, tmp_path / "fast.mp4", {"movflags": "faststart"})
    content = with_edit_list(tmp_path / "fast.mp4", tmp_path / "d.mp4", 10, 50).read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    notes = " ".join(read(cut)[2].decoded.notes)
    assert "the file is truncated" in notes and "of 50 frames" in notes


def test_video_rotation_tag_and_scaling(tmp_path):
    path = write_video(tmp_path / "a.mp4", 1, rotation=90, corner=(255, 0, 0))
    with Video(path) as video:
        assert video.picture(next(video.frames())[1], 20, 30).shape == (30, 20, 3)


@pytest.mark.parametrize("size", [(63, 47), (1, 1), (353, 17)])
def test_video_odd_sizes(tmp_path, size):
    path = write_video(tmp_path / "a.mkv", 2, size=size, codec="ffv1", pixels="bgr0")
    _, pictures, _ = read(path)
    assert [picture.shape for picture in pictures] == [(size[1], size[0], 3)] * 2
    assert [number(picture) for picture in pictures] == [0, 1] if min(size) > 2 else True
    with Video(path) as video:
        assert video.picture(next(video.frames())[1], 224, 224).shape == (224, 224, 3)


@pytest.mark.parametrize(
    "name, codec", [("a.ts", "mpeg2video"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.mpg", "mpeg1video")]
)
def test_truncated_video_gives_the_remaining_frames(tmp_path, name, codec):
    path = write_video(tmp_path / name, 200, codec=codec, size=(160, 120))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    _, pictures, _ = read(path)
    assert 60 < len(pictures) < 180
    assert [number(picture) for picture in pictures[:50]] == [index % 18 for index in range(50)]


def test_truncated_mp4_reports_the_missing_frames(tmp_path):
    path = write_video(tmp_path / "a.mp4", 100, size=(160, 120), options={"movflags": "faststart"})
    moved = remux(path, tmp_path / "b.mp4", {"movflags": "faststart"})
    moved.write_bytes(moved.read_bytes()[: moved.stat().st_size * 6 // 10])
    _, pictures, video = read(moved)
    assert 20 < len(pictures) < 90
    assert f"{len(pictures)} of 100 frames" in " ".join(video.decoded.notes)


def test_damaged_video_packets_are_skipped(tmp_path):
    path = write_video(tmp_path / "a.avi", 60, size=(160, 120))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(range(200))
    path.write_bytes(content)
    _, pictures, _ = read(path)
    assert len(pictures) > 40
    assert number(pictures[0]) == 0 and number(pictures[-1]) == 59 % 18


@pytest.mark.parametrize("content", [b"", b"this is no video at all" * 100, bytes(5000)])
def test_video_of_garbage_is_refused(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.mp4"):
        Video(path)


def test_video_without_a_video_stream_is_refused(tmp_path):
    with pytest.raises(UserError, match="no video stream, only audio"):
        Video(write_audio(tmp_path / "a.mp4"))


def test_missing_video_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"gone\.mp4 cannot be opened"):
        Video(tmp_path / "gone.mp4")


def test_video_with_a_unicode_name(tmp_path):
    _, pictures, _ = read(write_video(tmp_path / "Zürich 手話 \u2028.mp4", 3))
    assert len(pictures) == 3


def test_video_repeated_frames_are_converted_once(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 5, 25)
    calls = []
    original = Video.picture
    monkeypatch.setattr(Video, "picture", lambda *args: calls.append(1) or original(*args))
    assert len(sampled(path, 100)) == 20 and len(calls) == 5


def test_video_of_the_example(shared_videos):
    times, _, video = read(shared_videos / "sign_example.mp4")
    assert (len(times), video.width, video.height) == (133, 640, 480)
    assert float(video.rate) == pytest.approx(24.17, abs=0.01)
