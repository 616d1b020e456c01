"""Identify a model by all that its embeddings depend on."""

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mmpt.config.compare import embedding_settings

if TYPE_CHECKING:
    from mmpt.models.folder import LoadedModel

_NUMBERS = 256
_UNUSED = ("vocab_size", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
"""Sizes of the text model that the weights show, or that change training only."""


def model_fingerprint(loaded: "LoadedModel") -> str:
    """16 hex digits of the weights, and 16 of settings and tokenizer: two models with other vectors differ.

    It is the same for a checkpoint and the model folder converted from it. It does not protect against
    forgery.
    """
    return f"{weights_fingerprint(loaded.model)}-{_settings_fingerprint(loaded)}"


def _settings_fingerprint(loaded: "LoadedModel") -> str:
    sizes = dataclasses.asdict(loaded.model.text_settings)
    settings = {
        "text_model": {name: value for name, value in sizes.items() if name not in _UNUSED},
        "config": embedding_settings(loaded.dataset_cfg, loaded.model_cfg),
        "tokenizer": _tokenizer_facts(loaded.tokenizer),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _tokenizer_facts(tokenizer: Any) -> dict[str, Any]:
    """All that decides the token ids of a prompt."""
    facts: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    del facts["truncation"], facts["padding"]  # of the last call
    return facts | {"special": [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]}


def weights_fingerprint(model: nn.Module) -> str:
    """16 hex digits of the names, shapes and some values (256, evenly spaced) of each tensor of the model.

    It changes with any training, and takes milliseconds for models of any size.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        index = torch.linspace(0, max(len(flat) - 1, 0), min(len(flat), _NUMBERS), dtype=torch.float64)
        values = flat[index.long().to(flat.device)].to("cpu", torch.float32)
        digest.update(f"{name} {list(tensor.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()[:16]
