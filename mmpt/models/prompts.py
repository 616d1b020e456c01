"""Inputs of the text tower: distinct prompts of a batch, and a cache for a frozen tower.

A BatchLayout is what is known of a batch on the CPU: the lengths of its clips and prompts, and which prompts
are equal. It is computed with the batch and goes to the model with it. Without it the model finds the same in
the masks, and on a GPU the CPU waits for that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmpt.models.packing import Packing
from mmpt.models.pooling import mean_of
from mmpt.utils.device import put
from mmpt.utils.errors import UserError

SHORTEST = 3
"""Token ids of an empty prompt: [CLS] [SEP] [SEP]."""


def text_inputs(
    caps: Tensor, cmasks: Tensor, cut: bool = True, longest: int | None = None
) -> tuple[Tensor, Tensor]:
    """The text tower's input `[CLS] tokens [SEP]`, cut to the longest of the batch if `cut`.

    longest: its length in the result, if it is known. Returns ids int64 [B, L'] and their mask bool [B, L'].
    """
    if caps.ndim != 2 or caps.shape != cmasks.shape or caps.shape[1] < SHORTEST:
        raise UserError(
            f"caps have shape {tuple(caps.shape)} and cmasks {tuple(cmasks.shape)}; expected [prompts, "
            "tokens] for both, with [CLS] [SEP] first and [SEP] last in each prompt."
        )
    cmasks = cmasks.bool()
    used = caps.shape[1]
    if longest is not None:
        used = max(longest + 1, SHORTEST)
    elif cut:
        used = (
            int((cmasks * torch.arange(1, used + 1, device=cmasks.device)).max()) if len(caps) else SHORTEST
        )
        used = max(used, SHORTEST)
    ids = torch.cat([caps[:, :1], caps[:, 2:used]], 1)
    mask = torch.cat([cmasks[:, :1], cmasks[:, 2:used]], 1)
    return ids, mask


def distinct_prompts(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct rows of ids int64 [B, L] with mask bool [B, L]; padding is ignored.

    Returns ids [U, L], mask [U, L], and int64 [B]: the distinct row of each row.
    """
    rows, which = torch.unique((ids + 1) * mask, dim=0, return_inverse=True)
    return (rows - 1).clamp(min=0), rows > 0, which


def prompt_keys(rows: np.ndarray) -> tuple[bytes, ...]:
    """What tells prompts apart, of rows of token ids plus 1, and 0 where there is none: int64 [U, L]."""
    return tuple(row.tobytes().rstrip(b"\0") for row in rows)


def pool_text(hidden: Tensor, packing: Packing, mask: Tensor) -> Tensor:
    """Mean over the tokens of each prompt, without [CLS]: hidden [N, H], mask bool [B, L] -> [B, H]."""
    counted = packing.pack(mask) & (packing.columns > 0)
    return mean_of(hidden, packing.sequences, counted, packing.batch)


class TextCache:
    """Cache of the pooled features of a frozen text tower, valid until its weights change.

    Changing or replacing a parameter clears it. A change through `parameter.data` is not detected: call
    `clear`. A copy, even a pickled one, is empty.

    Args:
        tower: the frozen tower.
        limit: maximum number of prompts; beyond it, the cache is cleared.
    """

    def __init__(self, tower: nn.Module, limit: int = 1 << 16):
        self._tower = tower
        self._limit = limit
        self._features: dict[bytes, Tensor] = {}
        self._weights: list[Tensor] = []
        self._state: list[Any] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._tower, self._limit)

    def __len__(self) -> int:
        return len(self._features)

    def clear(self) -> None:
        """Remove all entries."""
        self._features = {}

    def lookup(
        self,
        ids: Tensor,
        mask: Tensor,
        encode: Callable[[Tensor, Tensor], Tensor],
        keys: Sequence[bytes] | None = None,
    ) -> Tensor:
        """Features [B, H] of distinct prompts, ids int64 [B, L] with mask bool [B, L], without gradients.

        Calls encode(ids, mask) for the new ones. keys: their prompt_keys, if they are known.
        """
        self._check()
        if keys is None:
            keys = prompt_keys(((ids + 1) * mask).cpu().numpy())
        new = [i for i, key in enumerate(keys) if key not in self._features]
        if new:
            if len(self._features) + len(new) > self._limit:
                self.clear()
                new = list(range(len(keys)))
            # not in inference mode: training may need features cached during an evaluation
            with torch.inference_mode(False), torch.no_grad():
                at = put(torch.tensor(new), ids.device)
                features = encode(ids[at].clone(), mask[at].clone())
            for i, row in zip(new, features.unbind()):
                self._features[keys[i]] = row.clone()
        if not keys:
            return encode(ids, mask)
        return torch.stack([self._features[key] for key in keys])

    def _check(self) -> None:
        """Empty the cache if the weights, or the precision they are used in, have changed."""
        weights = [parameter.detach() for parameter in self._tower.parameters()]
        device = weights[0].device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        state = [(w.data_ptr(), 0 if w.is_inference() else w._version, w.dtype) for w in weights] + [
            precision
        ]
        if state != self._state:
            self.clear()
            # keeps the tensors alive, so that their addresses are not reused
            self._weights, self._state = weights, state


@dataclass(frozen=True)
class Prompts:
    """The distinct prompts of a batch of B rows, in the order of distinct_prompts.

    rows: a row of the batch with each of them. which [B]: the distinct prompt of each row. lengths: token
    ids of each, as text_inputs returns them. keys: see prompt_keys.
    """

    rows: tuple[int, ...]
    which: tuple[int, ...]
    lengths: tuple[int, ...]
    keys: tuple[bytes, ...]

    @classmethod
    def of(cls, caps: Tensor, cmasks: Tensor) -> "Prompts | None":
        """The prompts of a batch on the CPU; None if padding is not last, or `caps` is too short."""
        if caps.shape[1] < SHORTEST:
            return None
        ids, mask = text_inputs(caps, cmasks)
        lengths = _lengths(mask)
        if lengths is None:
            return None
        distinct, which = torch.unique((ids + 1) * mask, dim=0, return_inverse=True)
        rows = _first(which.tolist(), len(distinct))
        return cls(
            rows, tuple(which.tolist()), tuple(lengths[i] for i in rows), prompt_keys(distinct.numpy())
        )

    def part(self, start: int, stop: int) -> "Prompts":
        """The prompts of the rows from `start` to `stop`."""
        kept = sorted(set(self.which[start:stop]))
        which = tuple(kept.index(i) for i in self.which[start:stop])
        lengths, keys = tuple(self.lengths[i] for i in kept), tuple(self.keys[i] for i in kept)
        return Prompts(_first(which, len(kept)), which, lengths, keys)


@dataclass(frozen=True)
class BatchLayout:
    """The number of frames of each clip of a batch, and its prompts."""

    frames: tuple[int, ...]
    prompts: Prompts

    @classmethod
    def of(cls, vmasks: Tensor, caps: Tensor, cmasks: Tensor) -> "BatchLayout | None":
        """The layout of a batch on the CPU; None if padding is not at the end of each clip and prompt."""
        frames, prompts = _lengths(vmasks), Prompts.of(caps, cmasks)
        return None if frames is None or prompts is None else cls(frames, prompts)

    def part(self, start: int, stop: int) -> "BatchLayout":
        """The layout of the rows from `start` to `stop`."""
        return BatchLayout(self.frames[start:stop], self.prompts.part(start, stop))


def _lengths(mask: Tensor) -> tuple[int, ...] | None:
    """How many columns of each row are true; None if others come before them."""
    counts = mask.sum(1)
    at_start = torch.arange(mask.shape[1]) < counts[:, None]
    return tuple(counts.tolist()) if torch.equal(mask, at_start) else None


def _first(numbers: Sequence[int], count: int) -> tuple[int, ...]:
    """The first place of each of 0 ... count - 1 among the numbers."""
    places = {number: place for place, number in reversed(list(enumerate(numbers)))}
    return tuple(places[number] for number in range(count))
