"""Batches are padded to their own longest."""

import numpy as np
import torch

from mmpt.datasets.mmdataset import collate


def sample(frames, tokens, index=0):
    return {
        "vfeats": np.full((frames, 2), frames, np.float32),
        "vmasks": np.ones(frames, bool),
        "caps": np.arange(1, tokens + 1),
        "cmasks": np.ones(tokens, bool),
        "video_id": f"clip{index}",
        "text": "t",
        "label": index,
        "index": index,
    }


def test_shapes_types_and_masks():
    batch = collate([sample(3, 5), sample(7, 4, 1)], pad_id=9)
    assert batch["vfeats"].shape == (2, 7, 2) and batch["vfeats"].dtype == torch.float32
    assert batch["caps"].tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 9]] and batch["caps"].dtype == torch.int64
    assert batch["vmasks"].sum(1).tolist() == [3, 7] and batch["cmasks"].sum(1).tolist() == [5, 4]
    assert batch["vfeats"][0, 3:].abs().sum() == 0 and batch["vmasks"].dtype == torch.bool
    assert batch["video_id"] == ["clip0", "clip1"] and batch["label"].tolist() == [0, 1]
    assert batch["layout"].frames == (3, 7) and batch["layout"].prompts.lengths == (3, 4)


def test_fixed_padding_of_the_ancestor():
    batch = collate([sample(3, 5)], video_len=12, text_len=9)
    assert batch["vfeats"].shape == (1, 12, 2) and batch["caps"].shape == (1, 9)
    assert batch["vmasks"].sum() == 3
