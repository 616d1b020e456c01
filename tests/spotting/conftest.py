"""A small model, and a recording of lexicon clips with rests between."""

from pathlib import Path

import numpy as np
import pytest
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody

from mmpt.embedding.embedder import SignCLIP
from mmpt.processors.fingerspelling import find_lexicon
from tests.conftest import mmfusion_config


@pytest.fixture(scope="session")
def model(data_dir: Path) -> SignCLIP:
    config = mmfusion_config(data_dir)
    return SignCLIP.from_checkpoint(data_dir / "mmfusion" / "weights.safetensors", config, device="cpu")


@pytest.fixture(scope="session")
def model_folder(model: SignCLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def poses() -> list[Path]:
    return sorted((find_lexicon(None) / "ase").glob("*.pose"))[:4]


def join(poses: list[Path], path: Path, rest: int = 10) -> list[tuple[int, int]]:
    """Write the clips one after the other, each followed by `rest` frames without anybody; their frames."""
    parts, spans, at = [], [], 0
    for file in poses:
        body = (pose := Pose.read(file.read_bytes())).body
        data, confidence = np.ma.getdata(body.data), np.asarray(body.confidence)
        spans.append((at, at + len(data)))
        gap = np.zeros((rest, *data.shape[1:]), np.float32)
        parts += [(data, confidence), (gap, gap[..., 0])]
        at += len(data) + rest
    data, confidence = (np.concatenate(some) for some in zip(*parts))
    with open(path, "wb") as out:
        Pose(pose.header, NumPyPoseBody(25, data, confidence)).write(out)
    return spans


@pytest.fixture(scope="session")
def joined(poses: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "joined.pose"
    join(poses, path)
    return path
