"""Scores and block-wise ranking of embeddings."""

import importlib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmpt.evaluators.metrics.ranking import Ranks, rank_matrix
from mmpt.evaluators.metrics.similarity import nearest_prompts, rank_embeddings, similarity
from mmpt.utils.errors import UserError


def embeddings(seed: int, prompts: int, videos: int, width: int = 16) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    text = random.standard_normal((prompts, width)).astype(np.float32)
    ids = random.integers(0, prompts, size=videos)
    return text, text[ids] + 2 * random.standard_normal((videos, width)).astype(np.float32), ids


def assert_same(a: Ranks, b: Ranks) -> None:
    for name in ("v2t", "queries", "t2v", "relevant"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.hits.keys() == b.hits.keys()
    for k in a.hits:
        np.testing.assert_array_equal(a.hits[k], b.hits[k])


def test_similarity_by_hand() -> None:
    text, video = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 2.0], [6.0, 8.0]])
    np.testing.assert_allclose(similarity(text, video), [[0.6, 0.8, 1.0], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(similarity(text, video, "dot"), [[3, 8, 50], [0, 0, 0]])
    assert similarity(text, video).dtype == np.float32


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("chunk", [1, 7, 100, 4096])
def test_rank_embeddings_in_blocks_equals_the_matrix(kind: str, chunk: int) -> None:
    text, video, ids = embeddings(0, prompts=300, videos=500)
    whole = rank_matrix(similarity(text, video, kind), ids, (1, 5, 10))
    assert_same(rank_embeddings(text, video, ids, kind, chunk=chunk), whole)


def test_similarity_ties_across_blocks() -> None:
    """Many equal clips and prompts, spread over all blocks: the same places as the matrix, by lower index."""
    random = np.random.default_rng(1)
    text = np.unique(random.integers(-1, 2, size=(400, 5)), axis=0).astype(np.float32)
    video = random.integers(-1, 2, size=(700, 5)).astype(np.float32)
    ids = random.integers(0, len(text), size=700)
    for kind in ("cosine", "dot"):
        whole = rank_matrix(similarity(text, video, kind), ids, (1, 5, 10))
        for chunk in (3, 64, 10_000):
            assert_same(rank_embeddings(text, video, ids, kind, chunk=chunk), whole)


def test_similarity_of_equal_vectors_is_equal() -> None:
    text, video, _ = embeddings(2, prompts=37, videos=50, width=333)
    video[[3, 17, 49]] = video[8]
    text[[5, 36]] = text[11]
    scores = similarity(text, video)
    for column in (3, 17, 49):
        np.testing.assert_array_equal(scores[:, column], scores[:, 8])
    for row in (5, 36):
        np.testing.assert_array_equal(scores[row], scores[11])


def test_rank_embeddings_does_not_rank_a_clip_before_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if its own score were rounded lower than in its block, which happens too rarely to wait for."""
    text, video, ids = embeddings(5, prompts=30, videos=80)
    wanted = rank_embeddings(text, video, ids, chunk=16)
    module = importlib.import_module("mmpt.evaluators.metrics.similarity")
    pairs = module._pairs
    below = np.float32(-np.inf)
    monkeypatch.setattr(module, "_pairs", lambda *sides: np.nextafter(pairs(*sides), below))
    assert_same(rank_embeddings(text, video, ids, chunk=16), wanted)


def test_nearest_prompts_ties() -> None:
    text, video, _ = embeddings(3, prompts=40, videos=600)
    np.testing.assert_array_equal(nearest_prompts(text, video), similarity(text, video).argmax(axis=0))
    assert nearest_prompts(np.ones((3, 2)), np.ones((1, 2))).tolist() == [0]
    assert nearest_prompts(text, video).dtype == np.int64
    longer = np.array([[1.0, 0.0], [9.0, 9.0]])
    assert nearest_prompts(longer, np.array([[2.0, 0.1]])).tolist() == [0]
    assert nearest_prompts(longer, np.array([[2.0, 0.1]]), "dot").tolist() == [1]


def test_rank_embeddings_memory(tmp_path: Path) -> None:
    """20,000 clips from a file x 2,000 prompts would be a matrix of 160 MB."""
    text, video, ids = embeddings(4, prompts=2000, videos=20_000, width=8)
    np.save(tmp_path / "video.npy", video)
    mapped = np.load(tmp_path / "video.npy", mmap_mode="r")
    tracemalloc.start()
    rank_embeddings(text, mapped, ids, chunk=1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize(
    ("text", "video", "kind", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "cosine", "one dimension"),
        (np.ones(3), np.ones((2, 3)), "cosine", "one dimension"),
        (np.ones((2, 3)), np.ones((2, 3)), "euclid", "unknown similarity 'euclid'"),
        (np.ones((2, 3)), np.full((2, 3), np.nan), "dot", "NaN"),
    ],
)
def test_similarity_errors(text: np.ndarray, video: np.ndarray, kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        similarity(text, video, kind)
    with pytest.raises(UserError, match=message):
        rank_embeddings(text, video, [0, 1], kind)


@pytest.mark.parametrize("function", [similarity, lambda *sides: rank_embeddings(*sides[:2], [0, 1], "dot")])
def test_dot_products_above_float32_are_refused(function: Any) -> None:
    long = np.array([[1e30, 1e25], [1e25, 1e30]])  # as infinite scores, all would tie
    with pytest.raises(UserError, match="the largest float32: compare with cosine"):
        function(long, long, "dot")
    np.testing.assert_allclose(similarity(long, long), [[1, 2e-5], [2e-5, 1]], rtol=1e-6)
    np.testing.assert_allclose(similarity(long * 1e200, long), [[1, 2e-5], [2e-5, 1]], rtol=1e-6)


def test_rank_embeddings_chunk_error() -> None:
    with pytest.raises(UserError, match="chunk"):
        rank_embeddings(np.ones((1, 2)), np.ones((1, 2)), [0], chunk=0)
