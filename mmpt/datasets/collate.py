"""Samples -> a batch, padded to its longest sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmpt.models.prompts import BatchLayout


def collate(
    samples: Sequence[dict[str, Any]],
    pad_id: int = 0,
    video_len: int | None = None,
    text_len: int | None = None,
) -> dict[str, Any]:
    """Pad samples of MMDataset into one batch of B clips.

    Returns `vfeats` float32 [B, T, D] and `caps` int64 [B, L], `vmasks` and `cmasks` bool (false on padding),
    `label` and `index` int64 [B], lists `video_id` and `text`, and the `layout` of the batch. T and L are the
    batch's longest, or video_len and text_len if given (SignCLIP's fixed padding) and not
    exceeded (dataset.long_video: windows).
    """
    assert samples, "a batch needs at least one sample"
    batch: dict[str, Any] = {
        "vfeats": _pad([s["vfeats"] for s in samples], 0.0, np.float32, video_len),
        "vmasks": _pad([s["vmasks"] for s in samples], False, bool, video_len),
        "caps": _pad([s["caps"] for s in samples], pad_id, np.int64, text_len),
        "cmasks": _pad([s["cmasks"] for s in samples], False, bool, text_len),
    }
    batch["layout"] = BatchLayout.of(batch["vmasks"], batch["caps"], batch["cmasks"])
    for key in ("label", "index"):
        if key in samples[0]:
            batch[key] = torch.tensor([s[key] for s in samples], dtype=torch.long)
    for key in ("video_id", "text"):
        if key in samples[0]:
            batch[key] = [s[key] for s in samples]
    return batch


def _pad(arrays: list[np.ndarray], fill: Any, dtype: Any, length: int | None) -> torch.Tensor:
    longest = max(length or 0, *(len(array) for array in arrays))
    padded = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype=dtype)
    for row, array in zip(padded, arrays):
        row[: len(array)] = array
    return torch.from_numpy(padded)
