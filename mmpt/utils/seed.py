"""Random generators, one per example, derived from one seed."""

import numpy as np


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random generator of one example in one epoch.

    It depends only on the three numbers, so an example is augmented the same way in any process, order or
    batch, and after a resume. Different numbers give independent generators (NumPy's SeedSequence).
    """
    sequence = np.random.SeedSequence((seed & 0xFFFFFFFFFFFFFFFF, epoch, index))  # negative seeds too
    return np.random.Generator(np.random.PCG64(sequence))
