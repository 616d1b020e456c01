"""A model is a folder: `config.json`, `model.safetensors` and `tokenizer/`. It loads without network and
fairseq."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mmpt import __version__
from mmpt.config.build import Source, build
from mmpt.config.fields import saved_name
from mmpt.config.schema import DatasetConfig, ModelConfig
from mmpt.models.bert import BertSettings
from mmpt.models.dual_encoder import DualEncoder
from mmpt.models.pretrained import PretrainedBert, read_object, read_tokenizer
from mmpt.models.registries import MODELS
from mmpt.utils.adapters import merge_adapters
from mmpt.utils.checkpoint import load_into, load_state_dict_file
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import atomic_folder, write_json

FORMAT = "signclip-model"
FORMAT_VERSION = 1
"""Raised when older code can no longer read what is written."""
CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_DIR = "config.json", "model.safetensors", "tokenizer"


@dataclass
class ModelFolder:
    """What a folder holds: the model (evaluation mode, CPU) and what turns clips and prompts into its
    input."""

    model: DualEncoder
    model_cfg: ModelConfig
    dataset_cfg: DatasetConfig
    tokenizer: Any


def save_model_folder(
    folder: str | os.PathLike[str],
    model: DualEncoder,
    model_cfg: ModelConfig,
    dataset_cfg: DatasetConfig,
    tokenizer: Any,
) -> None:
    """Write a model folder, in one step: it is there whole, or as it was before.

    Paths of the machine that trained (`dataset.*_path`, `*_dir`, a `bert_name` that is a folder) are left
    out; low-rank adapters are merged, so that whoever loads it needs no peft. A model folder that is there
    already is replaced; any other folder that is not empty is refused with a UserError.
    """
    folder = Path(folder).absolute()
    _check_target(folder)
    with atomic_folder(folder) as fresh:
        tokenizer.save_pretrained(str(fresh / TOKENIZER_DIR))
        weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        weights = {name: tensor.contiguous() for name, tensor in merge_adapters(weights).items()}
        save_file(weights, fresh / WEIGHTS_FILE, metadata={"format": "pt"})
        write_json(fresh / CONFIG_FILE, _config(model, model_cfg, dataset_cfg, tokenizer))


def load_model_folder(folder: str | os.PathLike[str]) -> ModelFolder:
    """Read a folder of save_model_folder. Runs no code from it.

    Raises MissingDataError if it is no model folder, UserError if it is damaged or of a newer format.
    """
    folder = Path(folder)
    if not (folder / CONFIG_FILE).is_file():
        raise MissingDataError(
            f"there is no model folder {folder} (it has no {CONFIG_FILE}): train a model and convert its "
            "checkpoint "
            "with `python -m mmpt.cli.convert`."
        )
    tree = read_object(folder / CONFIG_FILE)
    where = str(folder / CONFIG_FILE)
    if tree.get("format") != FORMAT:
        raise UserError(f"{where} does not describe a SignCLIP model (its format is {tree.get('format')!r}).")
    version = tree.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise UserError(
            f"{where} has format version {version!r}; this mmpt ({__version__}) reads up to "
            f"{FORMAT_VERSION}: "
            "update it."
        )
    source = Source(where, {})
    model_cfg = build(ModelConfig, tree.get("model"), source, "model.")
    dataset_cfg = build(DatasetConfig, tree.get("dataset"), source, "dataset.")
    text_model = _text_model(tree.get("text_model"), where)
    with torch.device("meta"):  # sizes only: the weights are read, not made up and overwritten
        model = MODELS.get(model_cfg.model_cls, "model.model_cls").from_config(
            model_cfg, dataset_cfg, text_model
        )
    load_into(
        model, load_state_dict_file(folder / WEIGHTS_FILE), where=str(folder / WEIGHTS_FILE), assign=True
    )
    return ModelFolder(model.eval(), model_cfg, dataset_cfg, read_tokenizer(folder / TOKENIZER_DIR))


def _config(model: Any, model_cfg: Any, dataset_cfg: Any, tokenizer: Any) -> dict[str, Any]:
    # keys that older readers do not know: adapters are merged, so their rank is of training
    unknown = {"lora_rank"} | ({"members"} if model_cfg.ensemble_size == 1 else set())
    names = {field.name: saved_name(field) for field in dataclasses.fields(model_cfg)}
    saved = {names[name]: value for name, value in dataclasses.asdict(model_cfg).items()}
    dataset = {
        name: value
        for name, value in dataclasses.asdict(dataset_cfg).items()
        if not name.endswith(("_path", "_dir"))
    }
    if Path(dataset_cfg.bert_name).expanduser().is_dir():
        dataset["bert_name"] = Path(dataset_cfg.bert_name).name
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "mmpt_version": __version__,
        "text_model": {
            **dataclasses.asdict(model.text_settings),
            "cls_id": tokenizer.cls_token_id,
            "sep_id": tokenizer.sep_token_id,
        },
        "model": {
            **{name: value for name, value in saved.items() if name not in unknown},
            **{"checkpoint_path": None, "path_to_i3d_repo": None},
            "compile": False,  # of training: whoever loads the model may have no compiler
        },
        "dataset": dataset,
    }


def _text_model(tree: Any, where: str) -> PretrainedBert:
    if not isinstance(tree, Mapping) or not all(
        isinstance(tree.get(key), int) for key in ("cls_id", "sep_id")
    ):
        raise UserError(f"{where}: text_model must hold the sizes of the text model, cls_id and sep_id.")
    settings = BertSettings.from_dict(tree, f"{where}: text_model")
    return PretrainedBert(where, settings, None, tree["cls_id"], tree["sep_id"])


def _check_target(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; a folder to write the model to was expected.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / WEIGHTS_FILE).is_file():
        raise UserError(
            f"the folder {folder} is there already and holds other things than a model: give a new one."
        )
