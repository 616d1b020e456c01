"""A model of the letters of the fingerspelling lexicon, not trained, for tests of commands."""

from pathlib import Path

from tests.conftest import ROOT

OVERRIDES = ("model.ensemble_size=1", "model.num_hidden_video_layers=1", "model.video_hidden_size=32")


def save_letter_model(folder: Path, data_dir: Path, *overrides: str) -> Path:
    """Write a model folder with the features and the languages of fslex_demo."""
    import torch

    from mmpt.config import load_config
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.models import load_tokenizer
    from mmpt.models.folder import LoadedModel
    from mmpt.tasks import Task

    bert = f"dataset.bert_name={data_dir / 'mmfusion' / 'bert'}"
    config = load_config(ROOT / "projects/signclip/fslex_demo.yaml", [*OVERRIDES, bert, *overrides])
    torch.manual_seed(0)
    tokenizer = load_tokenizer(config.dataset.bert_name)
    parts = LoadedModel(Task(config).build_model(), config.model, config.dataset, tokenizer)
    SignCLIP(parts).save_pretrained(folder)
    return folder
