"""One seed, one stream for each example."""

import random

import numpy as np
import torch

from mmpt.utils.seed import generator, seed_everything


def test_a_generator_depends_on_its_three_numbers_and_nothing_else() -> None:
    wanted = generator(1, 2, 3).random(4)
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    generator(1, 2, 4).random(100)
    np.testing.assert_array_equal(generator(1, 2, 3).random(4), wanted)
    others = [(1, 3, 2), (2, 1, 3), (1, 2, 4), (0, 2, 3), (1, 2, 3 + 2**32), (-1, 2, 3)]
    assert len({float(generator(*numbers).random()) for numbers in [(1, 2, 3), *others]}) == 7


def test_neighbouring_examples_are_unrelated() -> None:
    draws = np.array([generator(7, epoch, index).random(50) for epoch in range(20) for index in range(20)])
    correlations = np.corrcoef(draws)[np.triu_indices(400, 1)]
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(correlations.mean()) < 0.01 and np.abs(correlations).max() < 0.8


def test_the_global_states_are_seeded() -> None:
    drawn = []
    for _ in range(2):
        seed_everything(5)
        drawn.append((random.random(), float(np.random.random()), torch.rand(1).item()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    seed_everything(6)
    assert random.random() != drawn[0][0]
