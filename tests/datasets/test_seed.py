"""Random generators of examples."""

import numpy as np

from mmpt.datasets.mmdataset import generator


def test_generator_depends_only_on_its_three_numbers() -> None:
    wanted = generator(1, 2, 3).random(4)
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    generator(1, 2, 4).random(100)
    np.testing.assert_array_equal(generator(1, 2, 3).random(4), wanted)
    others = [(1, 3, 2), (2, 1, 3), (1, 2, 4), (0, 2, 3), (1, 2, 3 + 2**32), (-1, 2, 3)]
    assert len({float(generator(*numbers).random()) for numbers in [(1, 2, 3), *others]}) == 7


def test_generators_of_neighbouring_examples_are_independent() -> None:
    draws = np.array([generator(7, epoch, index).random(50) for epoch in range(20) for index in range(20)])
    correlations = np.corrcoef(draws)[np.triu_indices(400, 1)]
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(correlations.mean()) < 0.01 and np.abs(correlations).max() < 0.8
