"""A model folder and a table that tests of several commands share."""

from pathlib import Path

import pytest
import torch

from mmpt.config import load_config
from mmpt.embedder import SignCLIP
from mmpt.models import load_tokenizer
from mmpt.models.folder import ModelFolder
from mmpt.tasks import Task
from tests.conftest import TINY
from tests.processors.table_data import table_rows, write_table


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, data_dir: Path, pose_cache: Path) -> Path:
    """An untrained model of right hands, with towers of width 32."""
    folder = tmp_path_factory.mktemp("model")
    bert = data_dir / "mmfusion" / "bert"
    (folder / "tiny.yaml").write_text(TINY.format(bert=bert, cache=pose_cache, folder=folder))
    config = load_config(folder / "tiny.yaml")
    torch.manual_seed(0)
    parts = ModelFolder(
        Task(config).build_model(), config.model, config.dataset, load_tokenizer(config.dataset.bert_name)
    )
    SignCLIP(parts).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def small_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six letters in four sign languages: 12 clips of train, 6 of valid, 6 of test."""
    return write_table(tmp_path_factory.mktemp("table") / "table.csv", table_rows())
