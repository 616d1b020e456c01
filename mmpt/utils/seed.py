"""Randomness that is the same whenever it is asked for the same thing."""

import random

import numpy as np


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """A Generator made of (seed, epoch, index): what it draws depends on nothing else, not on workers or order."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed & 0xFFFFFFFF, epoch, index))))


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy's global state and torch."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  other people's code draws from it
    torch.manual_seed(seed)
