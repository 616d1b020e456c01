"""Spotting as a competent user would write it: batches of windows, a matrix product, NumPy suppression."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pose_format import Pose

from benchmarks.peer_embedding import BATCH, PeerTowers, PoseFiles, pad
from mmpt.pose.clip import PoseClip
from mmpt.processors.pose_video import PoseProcessor
from mmpt.utils.errors import UserError


def window_scores_of(
    towers: PeerTowers, processor: PoseProcessor, path: Path, spans: NDArray, texts: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Cosines of all windows [N, 2] with the texts, float32 [N, n]; NaN of windows without a hand."""
    files = PoseFiles([str(path)], processor, towers.longest)
    body = Pose.read(path.read_bytes()).body
    confidence = body.confidence[:, 0][:, files.columns]
    data = body.data.data[:, 0][:, files.columns] * (confidence != 0)[..., None]
    unit = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    scores = np.full((len(spans), len(texts)), np.nan, np.float32)
    for first in range(0, len(spans), BATCH):
        rows, clips = [], []
        for row, (start, stop) in enumerate(spans[first : first + BATCH].tolist(), first):
            clip = PoseClip(data[start:stop], confidence[start:stop], body.fps, files.layout, files.width)
            try:
                features = processor.features(processor.prepare.clip(clip))
            except UserError:  # no frame shows the shoulders
                continue
            if not processor.blank(features):
                rows.append(row)
                clips.append(torch.from_numpy(features[: towers.longest]))
        if clips:
            with torch.inference_mode():
                vectors = towers(*pad(clips)).numpy()
            scores[rows] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) @ unit.T
    return scores


def peaks_of_each_text(
    spans: NDArray, scores: NDArray[np.float32], overlap: float, least: float
) -> set[tuple[int, int, int]]:
    """(start, stop, text) of the windows that are left after greedy suppression of each text."""
    found = set()
    starts, stops = spans.T
    for text, column in enumerate(scores.T):
        rows = np.flatnonzero(column >= least)
        rows = rows[np.argsort(-column[rows], kind="stable")]
        while len(rows):
            best, rows = rows[0], rows[1:]
            found.add((int(starts[best]), int(stops[best]), text))
            common = np.minimum(stops[rows], stops[best]) - np.maximum(starts[rows], starts[best])
            union = stops[rows] - starts[rows] + stops[best] - starts[best] - common
            rows = rows[common <= overlap * union]
    return found
