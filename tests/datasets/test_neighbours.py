"""Batches of neighbours by embeddings."""

from collections import Counter

import numpy as np
import pytest

from mmpt.datasets.neighbours import neighbour_batches, recording_vectors


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def likeness(vectors: np.ndarray, batches: list[list[int]]) -> float:
    """Mean cosine of two different clips of a batch."""
    pairs = [vectors[i] @ vectors[j] for batch in batches for i in batch for j in batch if i < j]
    return float(np.mean(pairs))


@pytest.mark.parametrize("seed", range(40))
def test_every_clip_is_in_one_batch_of_at_most_one_clip_per_prompt(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 90))
    labels = rng.integers(0, rng.integers(1, 30), count).tolist() if seed % 4 else None
    largest = count if labels is None else len(set(labels))
    size = int(rng.integers(1, largest + 1))
    vectors = unit(rng.normal(size=(count, 4))).astype(np.float32)
    if seed % 3 == 0:
        vectors[: count // 2] = vectors[0]
    batches = neighbour_batches(vectors, labels, size, np.random.default_rng(1))
    assert sorted(i for batch in batches for i in batch) == list(range(count))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= size
    most = 1 if labels is None else max(Counter(labels).values())
    assert len(batches) == max(most, -(-count // size))
    if labels is not None:
        assert all(len({labels[i] for i in batch}) == len(batch) for batch in batches)
    assert batches == neighbour_batches(vectors, labels, size, np.random.default_rng(1))


@pytest.mark.parametrize("unique", [True, False])
def test_batches_are_neighbours(unique: bool) -> None:
    """Three groups of 80 clips, each of 40 prompts: most batches are of one group."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(3), 80)
    vectors = unit(np.eye(3)[group] + rng.normal(scale=0.05, size=(240, 3))).astype(np.float32)
    labels = (np.arange(240) % 40 + 40 * group).tolist() if unique else None
    order = rng.permutation(240)
    vectors, labels = vectors[order], [labels[i] for i in order] if labels else None
    batches = neighbour_batches(vectors, labels, 10, rng)
    groups = [{int(group[order][i]) for i in batch} for batch in batches]
    assert len(groups) == 24 and sum(len(found) == 1 for found in groups) >= 16
    random = [part.tolist() for part in np.split(rng.permutation(240), 24)]
    assert likeness(vectors, batches) > 0.7 > 0.5 > likeness(vectors, random)


def test_a_batch_is_a_random_half_of_the_nearest_clips() -> None:
    vectors = unit(np.stack([np.ones(100), np.linspace(0, 3, 100)], 1)).astype(np.float32)
    drawn = [neighbour_batches(vectors, None, 10, np.random.default_rng(i))[0] for i in range(9)]
    first = {tuple(sorted(batch)) for batch in drawn}
    assert len(first) == 9
    assert all(max(batch) - min(batch) <= 38 for batch in first), "among the 20 nearest of its first clip"


def test_clips_of_a_recording_have_one_vector_of_clips_and_texts() -> None:
    rng = np.random.default_rng(0)
    clips, texts = rng.normal(size=(2, 3, 5))
    found = recording_vectors(clips, texts, ["a", "b", "a"])
    pair = unit(clips) + unit(texts)
    expected = unit(np.stack([pair[0] + pair[2], pair[1], pair[0] + pair[2]]))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.isfinite(recording_vectors(0 * clips, 0 * texts, ["a", "b", "a"])).all()
