"""The reference model and its inputs and outputs, for the tests of the towers."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmpt.config.schema import DatasetConfig, ModelConfig
from mmpt.models import MMFusionSeparate, build_model, packing
from mmpt.utils.checkpoint import load_into, load_state_dict_file


@pytest.fixture(autouse=True)
def several_attention_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small batch, too, is divided into groups."""
    monkeypatch.setitem(packing.CALL_COST, "cpu", 1_000)


@pytest.fixture(scope="session")
def mmfusion_dir(data_dir: Path) -> Path:
    return data_dir / "mmfusion"


@pytest.fixture(scope="session")
def tiny_bert(mmfusion_dir: Path) -> str:
    """Folder of a BERT with 4 layers of width 32 and a vocabulary of 300."""
    return str(mmfusion_dir / "bert")


@pytest.fixture(scope="session")
def dataset_cfg(tiny_bert: str) -> DatasetConfig:
    return DatasetConfig(
        meta_processor="unused", video_processor="unused", max_video_len=128, max_len=32, bert_name=tiny_bert
    )


@pytest.fixture(scope="session")
def make_model(dataset_cfg: DatasetConfig) -> Any:
    """make_model(max_video_len=..., seed=..., **model options) -> a model in evaluation mode."""

    def make(seed: int = 0, max_video_len: int = 128, **options: Any) -> Any:
        torch.manual_seed(seed)
        model_cfg = ModelConfig(**{"num_hidden_video_layers": 2, "vfeat_dim": 63, **options})
        return build_model(model_cfg, dataclasses.replace(dataset_cfg, max_video_len=max_video_len)).eval()

    return make


@pytest.fixture(scope="session")
def loaded_reference(make_model: Any, mmfusion_dir: Path) -> MMFusionSeparate:
    model = make_model()
    load_into(model, load_state_dict_file(mmfusion_dir / "weights.safetensors"))
    return model


@pytest.fixture
def reference_model(loaded_reference: MMFusionSeparate) -> MMFusionSeparate:
    """A fresh model with the reference checkpoint's weights."""
    return copy.deepcopy(loaded_reference)


@pytest.fixture(scope="session")
def io(mmfusion_dir: Path) -> dict[str, torch.Tensor]:
    """Inputs and outputs of the reference."""
    return {
        key: torch.from_numpy(np.asarray(value)) for key, value in np.load(mmfusion_dir / "io.npz").items()
    }
