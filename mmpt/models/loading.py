"""Load a trained model from a checkpoint or model folder of any format.

Used by all commands. Reads checkpoints of mmpt, SignCLIP and VideoCLIP, plain state dicts (.pt, .safetensors)
and model folders, and merges low-rank adapters. Does not need fairseq. No code in a file is run unless the
file is trusted explicitly.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from mmpt.config.compare import trained_with, warn_of_other_preprocessing
from mmpt.config.run_folder import DATA, SAVED_CONFIG, TOKENIZER, unfinished
from mmpt.config.schema import Config
from mmpt.models.building import build_model, shapes_only
from mmpt.models.folder import CONFIG_FILE, TOKENIZER_DIR, WEIGHTS_FILE, LoadedModel, read_config
from mmpt.models.saved_tokenizer import read_saved_tokenizer
from mmpt.models.text_model import (
    PretrainedBert,
    check_vocabulary,
    load_bert,
    load_tokenizer,
    read_object,
    read_tokenizer,
    tokenizer_digest,
)
from mmpt.utils.checkpoint import load_into, load_state_dict_file
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import read_json, sha256
from mmpt.utils.output_kinds import MODEL_FOLDER
from mmpt.utils.outputs import check_files

log = logging.getLogger(__name__)


def load_model(
    path: str | os.PathLike[str], config: Config | None = None, trust: bool = False
) -> LoadedModel:
    """The model saved at `path`, on the CPU and in evaluation mode, with its configuration and tokenizer.

    Args:
        path: a model folder or a checkpoint file.
        config: the task config that describes the model. None: the one saved in the model folder, or
            `config.yaml` in the folder of the checkpoint.
        trust: see load_state_dict_file.

    Raises MissingDataError if a file is missing, UserError if one is damaged or does not fit the config: the
    error names every parameter that is missing, unexpected or of another shape.
    """
    path = Path(path)
    if config is None and not path.is_file():
        model_cfg, dataset_cfg, text_model = read_config(path)
        tokenizer: Any = None
    else:
        if config is None:
            config = _config_beside(path)
        else:
            warn_of_other_preprocessing(path, config)
        model_cfg, dataset_cfg = config.model, config.dataset
        text_model, tokenizer = load_bert(dataset_cfg.bert_name, False), load_tokenizer(dataset_cfg.bert_name)
        check_tokenizer(path, dataset_cfg.bert_name)
        if reached := unfinished(path):
            log.warning("%s: its training has not ended (%s)", path, reached)
    with shapes_only():  # the weights come from the file
        model = build_model(model_cfg, dataset_cfg, text_model).float()  # whatever torch's default is
    load_weights(model, path, trust=trust, assign=True)
    if tokenizer is None:
        # without a list of its files, the folder may have been edited: transformers reads all of it
        listed = "files" in read_object(path / CONFIG_FILE)
        tokenizer = (read_saved_tokenizer if listed else read_tokenizer)(path / TOKENIZER_DIR)
        check_vocabulary(tokenizer, text_model.settings, str(path / CONFIG_FILE))
        _check_special_ids(tokenizer, text_model, path)
    return LoadedModel(model.eval(), model_cfg, dataset_cfg, tokenizer, path)


def load_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    trust: bool = False,
    ignore: Iterable[str] = (),
    assign: bool = False,
) -> list[str]:
    """Load the weights of a checkpoint or model folder into a model, strictly (see load_into).

    The files of a model folder must have the hashes that its config.json lists, if it lists any.

    Returns the names of the parameters that `ignore` (model.init_ignore) excluded.
    """
    state = load_state_dict_file(weights_file(path), trust)
    ignored = load_into(model, state, ignore, where=str(weights_file(path)), assign=assign)
    if Path(path).is_dir():
        check_files(Path(path), MODEL_FOLDER)
    return ignored


def weights_file(path: str | os.PathLike[str]) -> Path:
    """The file that holds the weights: `path` itself, or `model.safetensors` if it is a folder."""
    return Path(path) / WEIGHTS_FILE if Path(path).is_dir() else Path(path)


def model_files(path: str | os.PathLike[str]) -> list[Path]:
    """The files of a saved model: weights, config and, of a folder, the tokenizer."""
    weights = weights_file(path)
    if not Path(path).is_dir():
        return [weights, weights.with_name(SAVED_CONFIG)]
    tokenizer = sorted(file for file in (Path(path) / TOKENIZER_DIR).rglob("*") if file.is_file())
    return [weights, weights.with_name(CONFIG_FILE), *tokenizer]


def model_hash(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 over the files of a model folder, or of a checkpoint with its config."""
    digest = hashlib.sha256()
    for file in model_files(path):
        digest.update(sha256(file).encode())
    return digest.hexdigest()


def check_tokenizer(source: Path, name: str) -> None:
    """Raises UserError if the weights at `source` were trained with another tokenizer than that of `name`.

    source: a model folder, which holds its tokenizer, or a checkpoint, whose training recorded a digest.
    Nothing is compared for other checkpoints.
    """
    before = None
    if source.is_dir():
        before = tokenizer_digest(read_saved_tokenizer(source / TOKENIZER_DIR))
    else:
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            before = read_json(source.with_name(DATA)).get(TOKENIZER)
    if before is not None and before != tokenizer_digest(load_tokenizer(name)):
        raise UserError(
            f"{source} was trained with another tokenizer than that of dataset.bert_name={name}: it gives "
            "other token ids. Set the text model that it was trained with, or restore its files."
        )


def _check_special_ids(tokenizer: Any, text_model: PretrainedBert, folder: Path) -> None:
    there, ours = (tokenizer.cls_token_id, tokenizer.sep_token_id), (text_model.cls_id, text_model.sep_id)
    if there != ours:
        raise UserError(
            f"{folder}: the ids of [CLS] and [SEP] are {ours} in {CONFIG_FILE}, but {there} in its "
            f"{TOKENIZER_DIR}: these are of two models. Convert the checkpoint again."
        )


def _config_beside(checkpoint: Path) -> Config:
    config = trained_with(checkpoint)
    if config is None:
        raise MissingDataError(
            f"{checkpoint} has no readable {SAVED_CONFIG} in its folder: convert the "
            "checkpoint to a model folder with `signclip convert`, and use that."
        )
    return config
