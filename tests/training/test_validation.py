"""Retrieval on the validation split, against the ranking of all embeddings at once."""

import numpy as np
import pytest
import torch

from mmpt.evaluators import rank_metrics, similarity
from mmpt.training.validation import ValidationRetrieval
from mmpt.utils.errors import UserError

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 3])


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("batches", [[range(7)], [[3, 1], [6, 0, 2], [5, 4]], [[0, 1, 2, 3], [4, 5, 6, 0]]])
def test_metrics_are_those_of_the_whole_split(kind, batches):
    """In any order and batches, and with a clip that another process repeats."""
    generator = torch.Generator().manual_seed(3)
    video = torch.randn(7, 5, generator=generator)
    text = torch.randn(4, 5, generator=generator)
    retrieval = ValidationRetrieval(kind, len(batches))
    for batch in batches:
        assert not retrieval.complete
        rows = torch.tensor(list(batch))
        outputs = {"pooled_video": video[rows], "pooled_text": text[LABELS[rows]]}
        retrieval.add({"index": rows, "label": LABELS[rows]}, outputs)
    assert retrieval.complete
    ranked = rank_metrics(similarity(text.numpy(), video.numpy(), kind), np.asarray(LABELS))
    expected = {"v2t_R@1": ranked["v2t"]["R@1"], "t2v_P@1": ranked["t2v"]["P@1"]}
    assert retrieval.metrics() == expected


def test_validation_names_the_clip_whose_embedding_is_nan():
    vectors = torch.eye(2)
    sample = {"index": torch.arange(2), "label": torch.arange(2), "video_id": ["good", "huge"]}
    outputs = {"pooled_video": vectors * torch.tensor([[1.0], [float("inf")]]), "pooled_text": vectors}
    with pytest.raises(UserError, match="embedding of the clip huge of the validation split"):
        ValidationRetrieval("cosine", 1).add(sample, outputs)
