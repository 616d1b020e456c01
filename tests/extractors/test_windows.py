from fractions import Fraction

import numpy as np
import pytest

from mmpt.extractors.windows import WindowReader, aligned_windows, fill_windows
from tests.extractors.videos import number, write_video

S3D = WindowReader(Fraction(30), "short_side", 224, 224, "bicubic", 30, 30, "zeros")
I3D = WindowReader(Fraction(25), "square", 256, 224, "bilinear", 16, 25, "aligned")


def frames(count):
    return (np.full((1, 1, 3), index, np.uint8) for index in range(count))


def starts(count, length, stride):
    windows = [window[:, 0, 0, 0].tolist() for window in aligned_windows(frames(count), length, stride)]
    assert all(window == list(range(window[0], window[0] + length)) for window in windows)
    return [window[0] for window in windows]


@pytest.mark.parametrize("count", [16, 17, 23, 24, 31, 32, 33, 100])
@pytest.mark.parametrize("stride", [1, 3, 8, 15, 16])
def test_aligned_windows_are_the_published_ones(count, stride):
    """ceil((n - 16) / stride) + 1 windows, the last moved back to end with the clip."""
    published = [min(j * stride, count - 16) for j in range(-(-(count - 16) // stride) + 1)]
    assert starts(count, 16, stride) == published


def test_aligned_windows_with_a_large_stride():
    assert starts(250, 16, 25) == [0, 25, 50, 75, 100, 125, 150, 175, 200, 234]
    assert starts(251, 16, 25)[-2:] == [225, 235]
    assert starts(241, 16, 25)[-2:] == [200, 225]
    assert starts(25, 16, 25) == [9]


def test_aligned_windows_of_a_short_clip_repeat_its_last_frame():
    (window,) = aligned_windows(frames(3), 16, 25)
    assert window[:, 0, 0, 0].tolist() == [0, 1] + [2] * 14


def test_fill_windows_pads_the_last_window_with_zeros():
    first, last = fill_windows((picture + 1 for picture in frames(35)), 30, 30)
    assert first[:, 0, 0, 0].tolist() == list(range(1, 31))
    assert last[:, 0, 0, 0].tolist() == [31, 32, 33, 34, 35] + [0] * 25


@pytest.mark.parametrize(
    "size, scaled",
    [
        ((640, 480), (298, 224)),
        ((480, 640), (224, 298)),
        ((100, 100), (224, 224)),
        ((1920, 1080), (398, 224)),
    ],
)
def test_window_reader_scales_the_short_side(size, scaled):
    assert S3D.scaled_size(*size) == scaled
    assert I3D.scaled_size(*size) == (256, 256)


def test_window_reader_of_a_video(tmp_path):
    path = write_video(tmp_path / "a.mp4", 50, 25, size=(96, 64))
    generator = S3D.windows(path)
    windows = []
    while True:
        try:
            windows.append(next(generator))
        except StopIteration as end:
            outcome = end.value
            break
    assert [window.shape for window in windows] == [(30, 224, 224, 3)] * 2
    assert [number(windows[0][k]) for k in (0, 6, 12)] == [0, 5, 10]
    assert outcome.facts["frames"] == 50 and outcome.facts["sampled_frames"] == 60
    assert outcome.facts["tokens"] == 2 and outcome.notes == []


def test_window_reader_crops_the_centre(tmp_path):
    """A wide video, its left half red at the top: after scaling to 448x224, columns 112 to 336 are left."""
    path = write_video(tmp_path / "a.mkv", 1, size=(128, 64), codec="ffv1", pixels="bgr0", corner=(255, 0, 0))
    window = next(S3D.windows(path))[0]
    red = (window[..., 0] > 200) & (window[..., 1] < 60)
    assert red[50, :108].all() and not red[50, 116:].any()
    assert red[:108, 50].all() and not red[116:, 50].any()
    # the aspect is not kept: 256x256, rows and columns 16 to 240
    window = next(I3D.windows(path))[0]
    red = (window[..., 0] > 200) & (window[..., 1] < 60)
    assert red[50, :108].all() and not red[50, 116:].any()
