"""Identify a model by all that its embeddings depend on."""

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from mmpt.config.compare import embedding_settings
from mmpt.utils.checkpoint import merge_adapters

if TYPE_CHECKING:
    from mmpt.models.folder import LoadedModel

_NUMBERS, _BLOCK = 256, 1024
_UNUSED = ("vocab_size", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
"""Sizes of the text model that the weights show, or that change training only."""


def model_fingerprint(loaded: "LoadedModel") -> str:
    """16 hex digits of some weights, and 16 of all weights, settings and tokenizer.

    It is the same for a checkpoint and the model folder converted from it, whose adapters are merged. Two
    trained models differ. It does not notice weights that only changed places within a block of 1,024, and
    does not protect against forgery. Indexes of version 0.1 recorded only the first 16.
    """
    return f"{weights_fingerprint(loaded.model)}-{_whole_fingerprint(loaded)}"


def _whole_fingerprint(loaded: "LoadedModel") -> str:
    sizes = dataclasses.asdict(loaded.model.text_settings)
    settings = {
        "text_model": {name: value for name, value in sizes.items() if name not in _UNUSED},
        "config": embedding_settings(loaded.dataset_cfg, loaded.model_cfg),
        "tokenizer": _tokenizer_facts(loaded.tokenizer),
        "weights": _sums_digest(loaded.model),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _tokenizer_facts(tokenizer: Any) -> dict[str, Any]:
    """All that decides the token ids of a prompt."""
    facts: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    del facts["truncation"], facts["padding"]  # of the last call
    return facts | {"special": [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]}


def _sums_digest(model: nn.Module) -> str:
    """Hex SHA-256 of the sums of all blocks of 1,024 weights, as bits: another weight gives another one."""
    digest = hashlib.sha256()
    for _, tensor in sorted(merge_adapters(model.state_dict()).items()):
        flat = tensor.detach().reshape(-1)
        bits = flat.to(torch.float32).view(torch.int32) if flat.is_floating_point() else flat
        missing = -len(bits) % _BLOCK
        blocks = (F.pad(bits, (0, missing)) if missing else bits).reshape(-1, _BLOCK)  # pad always copies
        digest.update(blocks.sum(dim=1, dtype=torch.int64).cpu().numpy().tobytes())
    return digest.hexdigest()


def weights_fingerprint(model: nn.Module) -> str:
    """16 hex digits of the names, shapes and some values (256, evenly spaced) of each tensor of the model.

    It changes with any training, and takes milliseconds for models of any size.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(merge_adapters(model.state_dict()).items()):
        flat = tensor.detach().reshape(-1)
        index = torch.linspace(0, max(len(flat) - 1, 0), min(len(flat), _NUMBERS), dtype=torch.float64)
        values = flat[index.long().to(flat.device)].to("cpu", torch.float32)
        digest.update(f"{name} {list(tensor.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()[:16]
