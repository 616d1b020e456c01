"""TopK against a full sort."""

import itertools

import numpy as np
import pytest

from mmpt.utils.top_k import TopK


def by_sorting(scores: np.ndarray, numbers: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((np.broadcast_to(numbers, scores.shape), -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), numbers[order]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(60))
def test_top_k_of_random_blocks(seed: int, dtype: type) -> None:
    """Few and many ties, blocks of any width and order, numbers in any order, k up to all columns."""
    random = np.random.default_rng(seed)
    rows, n = int(random.integers(1, 9)), int(random.choice([1, 2, 97, 500, 1300]))
    k = int(random.integers(1, min(n, 30) + 1))
    levels = int(random.choice([1, 2, 5, 10**6]))
    scores = random.integers(-levels, levels + 1, (rows, n)).astype(dtype)
    if seed % 3 == 0:
        scores.sort()  # each block is higher than those before
    numbers = random.permutation(n) if seed % 2 else np.arange(n)
    best = TopK(rows, k, dtype)
    cuts = np.unique([0, *random.integers(0, n + 1, 3), n])
    blocks = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    half = rows // 2
    for block in [blocks[i] for i in random.permutation(len(blocks))]:
        given = numbers[block] if seed % 2 else int(block.start)
        for some in (slice(half), slice(half, rows)):
            best.add(scores[some, block], given, some)
    wanted = by_sorting(scores, numbers, k)
    np.testing.assert_array_equal(best.scores, wanted[0])
    np.testing.assert_array_equal(best.numbers, wanted[1])


def test_top_k_of_fewer_than_k() -> None:
    best = TopK(2, 3)
    best.add(np.array([[1, -np.inf], [np.nan, 2]], dtype=np.float32), 5)
    assert best.numbers.tolist() == [[5, 6, -1], [6, -1, -1]]
    assert best.scores.tolist() == [[1, -np.inf, -np.inf], [2, -np.inf, -np.inf]]
    best.add(np.empty((2, 0), dtype=np.float32), 7)
    assert best.numbers.tolist() == [[5, 6, -1], [6, -1, -1]]


def test_top_k_leaves_nan_out() -> None:
    scores = np.random.default_rng(0).standard_normal((3, 4000)).astype(np.float32)
    scores[1, 5:2000] = np.nan
    best = TopK(3, 7)
    best.add(scores, 0)
    wanted = by_sorting(np.where(np.isnan(scores), -np.inf, scores), np.arange(4000), 7)
    np.testing.assert_array_equal(best.numbers, wanted[1])
