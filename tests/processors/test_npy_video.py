import pickle

import numpy as np
import pytest

from mmpt.config import DatasetConfig
from mmpt.pose.span import Span
from mmpt.processors.npy_video import RWTHFSVideoProcessor, VideoProcessor, load_features
from mmpt.utils.errors import UserError


@pytest.fixture
def save(tmp_path):
    def write(array, name="a clip.npy"):
        np.save(tmp_path / name, array)
        return tmp_path / name

    return write


def refused(path, said):
    with pytest.raises(UserError, match=said) as caught:
        load_features(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_features_are_float32_whatever_the_file(save, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    path = save(array)
    out = VideoProcessor()(path)
    assert out.dtype == np.float32 and out.flags.writeable
    np.testing.assert_array_equal(out, array)
    assert VideoProcessor().shape(path) == (3, 4)


def test_i3d_features_are_averaged_to_512(save):
    array = np.random.default_rng(0).normal(size=(5, 1024)).astype(np.float32)
    path = save(array)
    out = RWTHFSVideoProcessor()(path)
    np.testing.assert_allclose(out, (array[:, 0::2] + array[:, 1::2]) / 2, atol=1e-6)
    assert out.shape == (5, 512) and out.dtype == np.float32
    np.testing.assert_array_equal(RWTHFSVideoProcessor(keep_width=True)(path), array)
    np.testing.assert_array_equal(VideoProcessor()(path), array)
    assert RWTHFSVideoProcessor().shape(path) == (5, 512) and VideoProcessor().shape(path) == (5, 1024)
    narrow = save(array[:, :512])
    np.testing.assert_array_equal(RWTHFSVideoProcessor()(narrow), array[:, :512])


@pytest.mark.parametrize("processor", [VideoProcessor(), RWTHFSVideoProcessor()])
def test_span_reads_only_its_rows(save, processor):
    array = np.arange(24, dtype=np.float32).reshape(8, 3)
    array[6, 1] = np.nan
    path = save(array)
    np.testing.assert_array_equal(processor(path, span=Span(2, 5, "frames")), array[2:5])
    assert processor.shape(path, span=Span(2, None, "frames")) == (6, 3)
    with pytest.raises(UserError, match=r"1 values.*frame 6, column 1"):
        processor(path, span=Span(5, None, "frames"))
    with pytest.raises(UserError, match=r"a clip.npy: .*milliseconds"):
        processor(path, span=Span(2, 5, "ms"))


def test_a_feature_dimension_that_cannot_be_averaged(save):
    with pytest.raises(UserError, match="width 700"):
        RWTHFSVideoProcessor()(save(np.ones((2, 700))))


@pytest.mark.parametrize(
    ("value", "keep"), [(None, False), (False, False), (True, True), (1, True), (0, False)]
)
def test_vfeat_custom(value, keep):
    config = DatasetConfig(
        meta_processor="any", video_processor="any", max_video_len=8, max_len=8, vfeat_custom=value
    )
    assert RWTHFSVideoProcessor.from_config(config, True).keep_width is keep


def test_mirroring_is_refused(save):
    with pytest.raises(UserError, match="mirror"):
        VideoProcessor()(save(np.ones((2, 3))), mirror=True)
    with pytest.raises(UserError, match="mirror"):
        VideoProcessor().shape(save(np.ones((2, 3))), mirror=True)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones(3), r"shape is \[3\]"),
        (np.ones((1, 2, 3)), r"shape is \[1, 2, 3\]"),
        (np.ones((0, 5)), r"shape is \[0, 5\]"),
        (np.ones((5, 0)), r"shape is \[5, 0\]"),
        (np.array([["a"]]), "dtype is <U1"),
        (np.ones((2, 2), bool), "dtype is bool"),
        (np.ones((2, 2), complex), "dtype is complex"),
        (np.array([[1, np.nan], [np.inf, 1]]), r"2 values.*frame 0, column 1"),
        (np.full((1, 1), 1e300), "infinite"),
    ],
)
def test_invalid_arrays_are_refused(save, array, said):
    refused(save(array), said)


def test_invalid_npy_files_are_refused(tmp_path, save):
    refused(tmp_path / "none.npy", "no such file")
    refused(tmp_path, "cannot be read")
    bad = tmp_path / "bad.npy"
    whole = save(np.ones((50, 8))).read_bytes()
    for content in (b"", b"rubbish", whole[:-1], whole[:60], whole[:10] + b"(" * 300):
        bad.write_bytes(content)
        refused(bad, "no complete .npy file")
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    (tmp_path / "x.npz").rename(bad)
    refused(bad, "npz")


def test_an_oversized_header_allocates_no_memory(tmp_path, save):
    content = save(np.ones((50, 80))).read_bytes()
    path = tmp_path / "bomb.npy"
    path.write_bytes(content.replace(b"(50, 80), }        ", b"(50, 80000000000), }"))
    assert b"80000000000" in path.read_bytes()
    refused(path, "no complete .npy file")


def test_pickled_code_is_not_run(tmp_path, save):
    marker = tmp_path / "ran"

    class Touch:
        def __reduce__(self):
            return (type(marker).touch, (marker,))

    array = np.empty((1, 1), dtype=object)
    array[0, 0] = Touch()
    refused(save(array), "no complete .npy file")
    plain = tmp_path / "plain.npy"
    plain.write_bytes(pickle.dumps(Touch()))
    refused(plain, "no complete .npy file")
    assert not marker.exists()


def test_npy_files_with_a_second_array_are_refused(tmp_path):
    with open(tmp_path / "two.npy", "wb") as file:
        np.save(file, np.ones((3, 4), np.float32))
        np.save(file, np.zeros((3, 4), np.float32))
    refused(tmp_path / "two.npy", r"176 bytes follow the array of shape \[3, 4\]")
