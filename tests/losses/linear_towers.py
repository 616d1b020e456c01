"""A model small enough for the tests of losses: two linear towers with dropout."""

from typing import Any

import torch
from torch import Tensor, nn


class LinearTowers(nn.Module):
    """Masked mean of frames, and of embedded tokens, each through a linear layer."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.video = nn.Linear(6, 5)
        self.words = nn.Embedding(11, 5)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vfeats: Tensor, vmasks: Tensor, caps: Tensor, cmasks: Tensor) -> dict[str, Tensor]:
        video = (vfeats * vmasks[..., None]).sum(1) / vmasks.sum(1, keepdim=True)
        text = (self.words(caps) * cmasks[..., None]).sum(1) / cmasks.sum(1, keepdim=True)
        return {"pooled_video": self.dropout(self.video(video)), "pooled_text": self.dropout(text)}


def make_batch(size: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(1, 8, (size, 1), generator=generator)
    tokens = torch.randint(3, 6, (size, 1), generator=generator)
    return {
        "vfeats": torch.randn(size, 7, 6, generator=generator),
        "vmasks": torch.arange(7) < frames,
        "caps": torch.randint(0, 11, (size, 5), generator=generator),
        "cmasks": torch.arange(5) < tokens,
        "labels": torch.randint(0, 4, (size,), generator=generator),
    }


def rows(batch: dict[str, Tensor], start: int, end: int) -> dict[str, Tensor]:
    return {name: tensor[start:end] for name, tensor in batch.items()}


def inputs(batch: dict[str, Tensor]) -> tuple[Any, ...]:
    return tuple(batch[name] for name in ("vfeats", "vmasks", "caps", "cmasks"))


def gradients(*modules: nn.Module) -> list[Tensor]:
    found = []
    for module in modules:
        for parameter in module.parameters():
            assert parameter.grad is not None
            found.append(parameter.grad.clone())
            parameter.grad = None
    return found
