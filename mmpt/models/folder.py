"""Write a model folder (`config.json`, `model.safetensors`, `tokenizer/`) and read its config."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from mmpt import __version__
from mmpt.config.build import Source, build
from mmpt.config.dataset_options import PoseSmoothing
from mmpt.config.fields import saved_name
from mmpt.config.schema import DatasetConfig, ModelConfig
from mmpt.models.bert_settings import BertSettings
from mmpt.models.dual_encoder import DualEncoder
from mmpt.models.fingerprint import model_fingerprint
from mmpt.models.text_model import PretrainedBert, read_object
from mmpt.utils.checkpoint import merge_adapters
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import write_json, write_text
from mmpt.utils.output_kinds import MODEL_FOLDER
from mmpt.utils.outputs import replace_output

FORMAT = MODEL_FOLDER.format
FORMAT_VERSION = 1
"""Increase when older versions cannot read new folders."""
CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_DIR = "config.json", "model.safetensors", "tokenizer"
CARD_FILE = "README.md"
_NEW_KEYS = ("person", *(field.name for field in dataclasses.fields(PoseSmoothing)))
"""Keys of `dataset` that older versions of mmpt do not know: they are left out if they have no effect."""


@dataclass
class LoadedModel:
    """A model with its configuration and tokenizer."""

    model: DualEncoder
    model_cfg: ModelConfig
    dataset_cfg: DatasetConfig
    tokenizer: Any
    path: Path | None = None
    """The checkpoint or model folder it was loaded from."""


def save_model_folder(
    folder: str | os.PathLike[str],
    model: DualEncoder,
    model_cfg: ModelConfig,
    dataset_cfg: DatasetConfig,
    tokenizer: Any,
    card: str | None = None,
    force: bool = False,
) -> None:
    """Write a model folder, with the hashes of its files in config.json; after an error it is as it was.

    Paths of this machine (`dataset.*_path`, `*_dir`, a `bert_name` that is a folder) are not written.
    Low-rank adapters are merged, so that loading needs no peft. card: text of the model card.
    The folder of the same model is replaced. Raises UserError if `folder` holds another model, unless
    `force`, or anything else (see replace_output).
    """
    of = {"model": model_fingerprint(LoadedModel(model, model_cfg, dataset_cfg, tokenizer))}
    with replace_output(folder, MODEL_FOLDER, of, force) as fresh:
        tokenizer.save_pretrained(str(fresh / TOKENIZER_DIR))
        weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        weights = {name: tensor.contiguous() for name, tensor in merge_adapters(weights).items()}
        save_file(weights, fresh / WEIGHTS_FILE, metadata={"format": "pt"})
        if card is not None:
            write_text(fresh / CARD_FILE, card)
        write_json(fresh / CONFIG_FILE, _config(model, model_cfg, dataset_cfg, tokenizer))


def read_config(folder: Path) -> tuple[ModelConfig, DatasetConfig, PretrainedBert]:
    """The config sections of a model folder, and the sizes of its text model.

    Raises MissingDataError if it is no model folder, UserError if it is damaged or of a newer format.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise MissingDataError(
            f"there is no model folder {folder} (it has no {CONFIG_FILE}): train a model and convert its "
            "checkpoint with `signclip convert`."
        )
    tree = read_object(path)
    if tree.get("format") != FORMAT:
        raise UserError(f"{path} does not describe a SignCLIP model (its format is {tree.get('format')!r}).")
    version = tree.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version!r}; this mmpt ({__version__}) reads up to {FORMAT_VERSION}: "
            "update it."
        )
    source = Source(str(path), {})
    model_cfg = build(ModelConfig, tree.get("model"), source, "model.")
    # a training option, which would run a compiler
    model_cfg = dataclasses.replace(model_cfg, compile=False)
    dataset_cfg = build(DatasetConfig, tree.get("dataset"), source, "dataset.")
    return model_cfg, dataset_cfg, _text_model(tree.get("text_model"), str(path))


def _config(
    model: DualEncoder, model_cfg: ModelConfig, dataset_cfg: DatasetConfig, tokenizer: Any
) -> dict[str, Any]:
    names = {field.name: saved_name(field) for field in dataclasses.fields(model_cfg)}
    saved = {names[name]: value for name, value in dataclasses.asdict(model_cfg).items()}
    # keys that older versions of mmpt do not know; adapters are merged, so their rank is not needed
    del saved["lora_rank"], saved["matmul_precision"], saved["nested_attention"]
    if model_cfg.ensemble_size == 1:
        del saved[names["ensemble_size"]]
    saved |= {"checkpoint_path": None, "path_to_i3d_repo": None}
    saved["compile"] = False  # a training option: the machine that loads the model may have no compiler
    dataset = {
        name: value
        for name, value in dataclasses.asdict(dataset_cfg).items()
        if not name.endswith(("_path", "_dir"))
    }
    for field in dataclasses.fields(dataset_cfg):
        if field.name in _NEW_KEYS and dataset[field.name] == field.default:
            del dataset[field.name]
    if Path(dataset_cfg.bert_name).expanduser().is_dir():
        dataset["bert_name"] = Path(dataset_cfg.bert_name).name
    text_model = dataclasses.asdict(model.text_settings)
    text_model |= {"cls_id": tokenizer.cls_token_id, "sep_id": tokenizer.sep_token_id}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "mmpt_version": __version__,
        "text_model": text_model,
        "model": saved,
        "dataset": dataset,
    }


def _text_model(tree: Any, where: str) -> PretrainedBert:
    if not isinstance(tree, Mapping) or not all(type(tree.get(key)) is int for key in ("cls_id", "sep_id")):
        raise UserError(f"{where}: text_model must contain the sizes of the text model, cls_id and sep_id.")
    settings = BertSettings.from_dict(tree, f"{where}: text_model")
    for key in ("cls_id", "sep_id"):
        if not 0 <= tree[key] < settings.vocab_size:
            raise UserError(
                f"{where}: text_model: {key} is {tree[key]}, but the word table has {settings.vocab_size} "
                "rows."
            )
    return PretrainedBert(where, settings, None, tree["cls_id"], tree["sep_id"])
