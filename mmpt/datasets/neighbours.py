"""Batches of clips that the model confuses: neighbours by the embeddings of an epoch's start.

Retrieval-augmented training, Xu et al. 2021, VideoCLIP, section 3.3, https://arxiv.org/abs/2109.14084.
"""

from collections.abc import Sequence

import numpy as np

CANDIDATES = 2
"""A batch is drawn from so many times as many nearest clips, as in VideoCLIP."""


def recording_vectors(clips: np.ndarray, texts: np.ndarray, recordings: Sequence[str]) -> np.ndarray:
    """A unit vector for each clip, float32 [N, H]: the mean over its recording, clips and texts alike.

    clips, texts: float [N, H], the embeddings of each clip and of its prompt. recordings: of each clip.
    """
    _, recording = np.unique(np.asarray(recordings), return_inverse=True)
    sums = np.zeros((recording.max() + 1, clips.shape[1]))
    np.add.at(sums, recording, _unit(clips) + _unit(texts))
    return _unit(sums).astype(np.float32)[recording]


def neighbour_batches(
    vectors: np.ndarray, labels: Sequence[int] | None, batch_size: int, rng: np.random.Generator
) -> list[list[int]]:
    """Batches of neighbours; every clip is in one, and sizes differ by at most 1.

    A batch is a random clip that is left, and a random half of the clips that are nearest to it among those
    left. The last batches have what the others left, so they are less alike. Takes N^2 / batch_size products
    of vectors.

    vectors: float [N, H]. labels: the prompt of each clip, at most one of which is in a batch; None: any
    number. batch_size: the largest size, at most the number of labels.
    """
    clips_left = np.arange(len(vectors))
    limits = np.arange(len(vectors)) if labels is None else np.unique(labels, return_inverse=True)[1]
    most = int(np.bincount(limits).max())
    batches = []
    for to_come in range(max(most, -(-len(vectors) // batch_size)), 0, -1):
        size = -(-len(clips_left) // to_come)
        batch = _neighbours(vectors, clips_left, limits, size, to_come, rng)
        batches.append(batch)
        clips_left = clips_left[~np.isin(clips_left, batch)]
    return batches


def _neighbours(
    vectors: np.ndarray,
    clips_left: np.ndarray,
    limits: np.ndarray,
    size: int,
    to_come: int,
    rng: np.random.Generator,
) -> list[int]:
    """One batch of `size` clips.

    A prompt with as many clips left as batches are to come is in each of them: otherwise two of its clips
    would meet in a later one.
    """
    order = rng.permutation(clips_left)  # equal vectors in random order
    urgent = np.bincount(limits[order], minlength=limits.max() + 1)[limits] == to_come
    some = order[urgent[order]] if urgent[order].any() else order
    nearest = order[np.argsort(-(vectors @ vectors[some[0]])[order], kind="stable")]
    nearest = np.concatenate([some[:1], nearest[nearest != some[0]]])
    # the nearest clip of each prompt, nearest first
    nearest = nearest[np.sort(np.unique(limits[nearest], return_index=True)[1])]
    needed = urgent[nearest]
    needed[0] = True
    chosen = nearest[needed].tolist()
    missing = size - len(chosen)
    others = nearest[~needed][: CANDIDATES * size - len(chosen)]
    return [*chosen, *rng.permutation(others)[:missing].tolist()]


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.where(norms > 0, norms, 1)
    return unit
