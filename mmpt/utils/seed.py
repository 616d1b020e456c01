"""Randomness from one seed: a generator of its own for each example, and the libraries' global states."""

import random

import numpy as np


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random generator of one example in one epoch.

    It depends on the three numbers and on nothing else, so an example is augmented the same way
    in whatever process, order or batch it is made, and after a resume. Generators of different numbers are
    independent (NumPy's SeedSequence). Making one takes some ten microseconds.
    """
    sequence = np.random.SeedSequence((seed & 0xFFFFFFFFFFFFFFFF, epoch, index))  # negative seeds too
    return np.random.Generator(np.random.PCG64(sequence))


def seed_everything(seed: int) -> None:
    """Seed the global states of random, NumPy and torch (all devices), for code that draws from those."""
    import torch  # heavy

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries still draw from the global state
    torch.manual_seed(seed)
