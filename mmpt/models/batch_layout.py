"""What is known of a batch on the CPU: lengths of its clips and prompts, and which prompts are equal.

It is computed with the batch and goes to the model with it. Without it the model finds the same in the masks,
and on a GPU the CPU waits for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmpt.models.prompts import SHORTEST, prompt_keys, text_inputs


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
        """The prompts of a batch on the CPU; None if padding is not last, or they are too short."""
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
    """Of a batch: the number of frames of each clip, and the prompts."""

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
