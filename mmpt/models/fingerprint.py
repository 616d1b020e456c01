"""Identify a model: by its weights, or by its files."""

import hashlib
import os

import torch
from torch import nn

from mmpt.models.loading import model_files
from mmpt.utils.files import sha256

_NUMBERS = 256


def model_fingerprint(model: nn.Module) -> str:
    """16 hex digits of the names, shapes and some values (256, evenly spaced) of each tensor of the model.

    It is the same for a checkpoint and the model folder converted from it, and changes with any training. It
    takes milliseconds for models of any size, and does not protect against forgery.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        index = torch.linspace(0, max(len(flat) - 1, 0), min(len(flat), _NUMBERS), dtype=torch.float64)
        values = flat[index.long().to(flat.device)].to("cpu", torch.float32)
        digest.update(f"{name} {list(tensor.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()[:16]


def model_hash(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 over the weights and the config of a model folder, or of a checkpoint with its config."""
    digest = hashlib.sha256()
    for file in model_files(path):
        digest.update(sha256(file).encode())
    return digest.hexdigest()
