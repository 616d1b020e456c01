"""Train only the rows of a word table that a run's prompts use.

The other rows never get a gradient, so Adam without weight decay leaves them as they are. In MiniLM they are
half of the parameters, and took memory and time for gradients and the two moments of Adam.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.models.bert import BertEmbeddings
from mmpt.models.video_bert import MMBertForEncoder

ROWS = "table_rows"
"""Attribute of a parameter that holds rows of a table: their numbers in it, int64."""


class TrainedRows(nn.Module):
    """A word table of which some rows are trained; saved and loaded as the `weight` of the whole table.

    table: [V, H]. ids: int64 [R], the trained rows.
    """

    table: Tensor
    place: Tensor

    def __init__(self, table: Tensor, ids: Tensor):
        super().__init__()
        self.register_buffer("table", table.detach(), persistent=False)
        place = torch.full((len(table),), -1, device=table.device)
        place[ids] = torch.arange(len(ids), device=table.device)
        self.register_buffer("place", place, persistent=False)
        self.rows = nn.Parameter(table.detach()[ids].clone())
        self._ids = ids
        setattr(self.rows, ROWS, ids)

    def forward(self, input: Tensor) -> Tensor:
        """Ids int64 [...] -> [..., H]."""
        place = self.place[input]
        trained = F.embedding(place.clamp(min=0), self.rows)
        return torch.where((place >= 0)[..., None], trained, F.embedding(input, self.table))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.table.index_copy(
            0, self._ids.to(self.table.device), self.rows.detach()
        )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        _, _, missing, _, errors = args
        weight = state_dict.get(f"{prefix}weight")
        if weight is None:
            missing.append(f"{prefix}weight")
        elif weight.shape != self.table.shape:
            errors.append(f"size mismatch for {prefix}weight: {weight.shape}, expected {self.table.shape}")
        else:
            with torch.no_grad():
                self.table.copy_(weight)
                self.rows.copy_(self.table[self._ids.to(self.table.device)])


def train_used_rows(model: nn.Module, ids: Iterable[int]) -> None:
    """Replace the trained word tables of a model, in place, by TrainedRows of these ids, [CLS] and [SEP]."""
    towers = [module for module in model.modules() if isinstance(module, MMBertForEncoder)]
    wanted = sorted({*ids, *(i for tower in towers for i in (tower.cls_id, tower.sep_id))})
    for module in model.modules():
        if isinstance(module, BertEmbeddings):
            table = cast(Tensor, module.word_embeddings.weight)
            used = torch.tensor([i for i in wanted if i < len(table)])  # others are symbols of SignWriting
            if table.requires_grad and 2 * len(used) < len(table):
                module.word_embeddings = TrainedRows(table, used)


def fit_rows(moment: Tensor, saved: Tensor | None, parameter: Tensor) -> Tensor:
    """A moment of Adam for a parameter, from one that was saved for other rows of its table.

    saved: int64 [R], the rows it was saved for; None: all. Rows that were not trained have moments of 0.
    """
    current = getattr(parameter, ROWS, None)
    if saved is not None:
        rows = len(parameter) if current is None else int(max(saved.max(), current.max())) + 1
        moment = moment.new_zeros(rows, *moment.shape[1:]).index_copy(0, saved.to(moment.device), moment)
    return moment if current is None else moment[current.to(moment.device)]
