"""Which model is it? A short name that weights have, whatever file or folder they came from."""

import hashlib

import torch
from torch import nn

_NUMBERS = 256


def model_fingerprint(model: nn.Module) -> str:
    """16 hex digits, of the names, shapes and some numbers (256, evenly spread) of each tensor of the model.

    The same for a checkpoint and the model folder made from it; another after any training. No protection
    against forgery. Milliseconds, whatever the model's size.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        places = torch.linspace(0, max(len(flat) - 1, 0), min(len(flat), _NUMBERS), dtype=torch.float64)
        some = flat[places.long().to(flat.device)].to("cpu", torch.float32)
        digest.update(f"{name} {list(tensor.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()[:16]
