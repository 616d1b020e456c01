"""Retrieval on the validation split: V2T R@1 and T2V P@1 from the embeddings of its batches."""

from typing import Any

import torch

from mmpt.evaluators import rank_metrics, similarity
from mmpt.utils.distributed import gather_objects
from mmpt.utils.errors import UserError


class ValidationRetrieval:
    """Collects the embeddings of one validation epoch and ranks them.

    kind: similarity, `cosine` or `dot`. batches: how many batches of this process make up the epoch.
    """

    def __init__(self, kind: str, batches: int):
        self._kind = kind
        self._missing = batches
        self._rows: list[dict[str, torch.Tensor]] = []

    @property
    def complete(self) -> bool:
        """Whether all batches have been added."""
        return self._missing == 0

    def add(self, sample: dict[str, Any], outputs: dict[str, torch.Tensor]) -> None:
        """Keep a batch: its `index` and `label`, and the model's `pooled_video` and `pooled_text`, [B, D].

        Raises UserError, which names the clip, for an embedding that is not finite.
        """
        self._missing -= 1
        for row in (~outputs["pooled_video"].isfinite().all(dim=1)).nonzero().flatten().tolist():
            raise UserError(
                f"the embedding of the clip {sample['video_id'][row]} of the validation split is NaN or "
                "infinite: check its features and, if they are right, the learning rate."
            )
        self._rows.append(
            {
                "index": sample["index"].cpu(),
                "label": sample["label"].cpu(),
                "video": outputs["pooled_video"].float().cpu(),
                "text": outputs["pooled_text"].float().cpu(),
            }
        )

    def metrics(self) -> dict[str, float]:
        """`v2t_R@1` and `t2v_P@1` over the clips of all processes."""
        parts = gather_objects({key: torch.cat([row[key] for row in self._rows]) for key in self._rows[0]})
        rows = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        # processes with fewer batches repeat a clip: each counts once
        first = {int(index): row for row, index in reversed(list(enumerate(rows["index"].tolist())))}
        clips = torch.tensor([first[index] for index in sorted(first)])
        labels = rows["label"][clips]
        prompts = torch.stack(
            [clips[(labels == label).nonzero()[0, 0]] for label in range(int(labels.max()) + 1)]
        )
        scores = similarity(rows["text"][prompts].numpy(), rows["video"][clips].numpy(), self._kind)
        ranked = rank_metrics(scores, labels.numpy())
        return {"v2t_R@1": ranked["v2t"]["R@1"], "t2v_P@1": ranked["t2v"]["P@1"]}
