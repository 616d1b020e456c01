"""Feature dimensions of ten seconds of 640x480 video at 30 fps, as in the README."""

from pathlib import Path

import av
import numpy as np
import pytest

from mmpt.extractors.base import Extractor
from mmpt.extractors.holistic import HolisticExtractor
from mmpt.extractors.i3d_extractor import I3DExtractor
from mmpt.extractors.npy import NpyExtractor
from mmpt.extractors.runner import RunOptions, extract_folder
from mmpt.extractors.s3d_extractor import S3DExtractor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ten_seconds(shared_videos, tmp_path_factory) -> Path:
    """The signer of the sample clip, over and over."""
    folder = tmp_path_factory.mktemp("ten")
    with av.open(str(shared_videos / "sign_example.mp4")) as source:
        pictures = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    with av.open(str(folder / "ten.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=30, options={"qscale": "3"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for index in range(300):
            frame = av.VideoFrame.from_ndarray(pictures[index % len(pictures)], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return folder


def extract(extractor: Extractor, folder: Path, out: Path) -> Path:
    assert extract_folder(extractor, folder, out, RunOptions(show_progress=False)).made == 1
    return out / f"ten{extractor.suffix}"


def test_feature_dimension_of_s3d(ten_seconds, tmp_path):
    features = np.load(extract(S3DExtractor("random:0", dtype="float32"), ten_seconds, tmp_path))
    assert features.shape == (10, 512) and features.dtype == np.float16


def test_feature_dimension_of_i3d(ten_seconds, tmp_path):
    features = np.load(extract(I3DExtractor("random:0", dtype="float32"), ten_seconds, tmp_path))
    assert features.shape == (10, 1024) and features.dtype == np.float32


def test_feature_dimension_of_mediapipe(ten_seconds, tmp_path):
    """543: 33 of the body, 468 of the face, 21 of each hand; the body's 33 in metres not counted."""
    from pose_format import Pose

    extractor = HolisticExtractor(refine_face=False)
    pose = Pose.read(extract(extractor, ten_seconds, tmp_path).read_bytes())
    points = {part.name: len(part.points) for part in pose.header.components}
    assert points.pop("POSE_WORLD_LANDMARKS") == 33
    assert (len(pose.body.data), sum(points.values())) == (300, 543)


def test_feature_dimension_of_signvqnet(tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "ten.npy", np.random.default_rng(0).normal(size=(10, 1024)).astype(np.float32))
    assert np.load(extract(NpyExtractor(1024), tmp_path / "in", tmp_path / "out")).shape == (10, 1024)
