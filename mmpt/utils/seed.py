"""Random generators, one per example, derived from one seed."""

import numpy as np


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random generator of one example in one epoch.

    It depends on the three numbers and on nothing else, so an example is augmented the same way
    in whatever process, order or batch it is made, and after a resume. Generators of different numbers are
    independent (NumPy's SeedSequence). Making one takes some ten microseconds.
    """
    sequence = np.random.SeedSequence((seed & 0xFFFFFFFFFFFFFFFF, epoch, index))  # negative seeds too
    return np.random.Generator(np.random.PCG64(sequence))
