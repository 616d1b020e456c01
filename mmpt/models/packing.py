"""Packing: compute the real tokens of a batch only, without padding.

A padded batch [B, L, H] becomes its real tokens [N, H], so that embeddings, projections, feed-forward,
LayerNorm and dropout are computed N times instead of B x L times. Attention runs over groups of sequences of
similar length, each padded to its longest, or over all sequences without padding (`nested`). Krell et al.
2021 (https://arxiv.org/abs/2107.02027) pack sequences into rows; this does not, so no sequence is cut and
results equal those of the padded batch.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmpt.models.layers import Dropout, quick_dropout
from mmpt.utils.device import put

CALL_COST = {"cpu": 16_000, "cuda": 1_000_000}
"""Cost of one more group, in entries of an attention matrix.

The CPU's was measured: updates of MiniLM take 3 to 4 % longer with a fourth of it, and as long with twice as
much. The GPU's is estimated from the time to launch kernels.
"""
SLACK = 0.15
"""Share of padding that a group may always have."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Sequences that attend in one call.

    count, length: number of sequences, and the length they are padded to. index int64 [tokens]: position of
    each real token among the count x length; mask bool [count, 1, 1, length]: keys that are attended to. Both
    are None if all sequences have the same length. offsets int64 [count + 1]: instead of padding, where the
    tokens of each sequence begin, and the end of the last; shortest: the length of the shortest.
    """

    count: int
    length: int
    index: Tensor | None
    mask: Tensor | None
    offsets: Tensor | None = None
    shortest: int = 0

    @functools.cached_property
    def bias(self) -> Tensor | None:
        """The mask to add to scores, float32: 0 at keys that are attended to, -inf elsewhere."""
        if self.mask is None:
            return None
        return torch.zeros(self.mask.shape, dtype=torch.float32, device=self.mask.device).masked_fill_(
            ~self.mask, -math.inf
        )


@dataclasses.dataclass(frozen=True)
class Packing:
    """The computed tokens of a padded batch [B, L], their order, and their attention groups.

    Attributes:
        batch, width: B and L.
        rows: int64 [N], index of each computed token in the flattened padded batch. The tokens of a sequence
            are consecutive; sequences are sorted by length, longest first.
        groups: of consecutive sequences.
        sizes: number of computed tokens of each group.
        plain: built with `packed` false.
    """

    batch: int
    width: int
    rows: Tensor
    groups: tuple[Group, ...]
    sizes: tuple[int, ...]
    plain: bool = False

    @classmethod
    def of(
        cls, mask: Tensor, packed: bool = True, lengths: Sequence[int] | None = None, nested: bool = False
    ) -> "Packing":
        """The packing of the tokens where mask [B, L] is true.

        The first token of each row is always included: attention over no token is undefined. With `packed`
        false padding is computed too, in one group as wide as the batch. lengths: the number of tokens of
        each row; None: the CPU waits for a GPU to know them. nested: one group of all sequences, without
        padding.
        """
        seen = mask.bool().clone()
        seen[:, :1] = True
        batch, width = seen.shape
        if not packed:
            rows = torch.arange(batch * width, device=mask.device)
            group = Group(batch, width, None, seen[:, None, None, :])
            return cls(batch, width, rows, (group,), (batch * width,), plain=True)
        counts = seen.sum(1).tolist() if lengths is None else [max(1, length) for length in lengths]
        longest_first = sorted(range(batch), key=lambda row: -counts[row])
        counts = [counts[row] for row in longest_first]
        both = put(torch.tensor([longest_first, counts], dtype=torch.int64), mask.device)
        order, ordered = both[0], seen[both[0]]
        place = places(ordered.flatten(), sum(counts))
        rows = order[place // width] * width + place % width
        if nested and counts and counts[0] != counts[-1]:
            offsets = F.pad(both[1].cumsum(0), (1, 0))
            group = Group(batch, counts[0], None, None, offsets, counts[-1])
            return cls(batch, width, rows, (group,), (sum(counts),))
        bounds = _split(counts, CALL_COST.get(mask.device.type, CALL_COST["cuda"]))
        groups = tuple(_group(counts[start:stop], both[1, start:stop]) for start, stop in bounds)
        return cls(batch, width, rows, groups, tuple(sum(counts[start:stop]) for start, stop in bounds))

    @property
    def sequences(self) -> Tensor:
        """int64 [N]: the row of the batch that each computed token belongs to."""
        if self.plain:  # without division: ONNX export has symbolic sizes
            return torch.arange(self.batch, device=self.rows.device)[:, None].expand(-1, self.width).flatten()
        return self.rows // self.width

    @property
    def columns(self) -> Tensor:
        """int64 [N]: the column of the batch of each computed token."""
        if self.plain:
            return torch.arange(self.width, device=self.rows.device).repeat(self.batch)
        return self.rows % self.width

    def pack(self, padded: Tensor) -> Tensor:
        """[B, L, ...] -> [N, ...]."""
        return padded.flatten(0, 1).index_select(0, self.rows)

    def unpack(self, tokens: Tensor) -> Tensor:
        """[N, H] -> [B, L, H], zero where no token was computed."""
        padded = spread(tokens, self.rows, self.batch * self.width)
        return padded.view(self.batch, self.width, tokens.shape[1])

    def attend(self, qkv: Tensor, heads: int, dropout: float) -> Tensor:
        """Multi-head scaled dot-product attention within each sequence.

        qkv [..., N, 3 * H]: queries, keys and values, `heads` heads in each. Returns [..., N, H].
        """
        if not self.groups:
            return qkv[..., : qkv.shape[-1] // 3]
        mixed = []
        for part, group in zip([qkv] if self.plain else qkv.split(self.sizes, -2), self.groups):
            if group.offsets is not None:
                mixed.append(_attention_of_lengths(part, group, group.offsets, heads, dropout))
                continue
            if group.index is not None:
                part = spread(part, group.index, group.count * group.length)
            shape = (*qkv.shape[:-2], group.count, group.length, 3, heads, -1)
            q, k, v = part.view(shape).transpose(-4, -2).unbind(-3)
            if self.plain or dropout == 0 or qkv.device.type != "cpu":
                out = _fused_attention(q, k, v, group.mask, dropout)
            else:  # torch has no fused attention with dropout on a CPU
                out = _attention_with_dropout(q, k, v, group.bias, dropout)
            out = out.transpose(-3, -2).flatten(-2).flatten(-3, -2)
            mixed.append(out if group.index is None else pick(out, group.index))
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed, -2)

    def attention_sizes(self, heads: int) -> list[int]:
        """Entries of the attention matrices of each group, without those whose dropout torch draws itself."""
        return [group.count * heads * group.length**2 for group in self.groups if group.offsets is None]


class PackedModule(torch.nn.Module):
    """A module that computes real tokens only, unless `packed` is false (see set_packed).

    nested: see Packing.of.
    """

    packed: bool = True
    nested: bool = False


def set_packed(model: torch.nn.Module, packed: bool) -> None:
    """Switch packing on or off in all towers of a model.

    Off gives the same results: padding and repeated prompts are computed, with torch's attention and dropout.
    """
    for module in model.modules():
        if isinstance(module, PackedModule):
            module.packed = packed
        if isinstance(module, Dropout):
            module.plain = not packed


def _attention_with_dropout(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """As _fused_attention, bias as in Group."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None:  # masked scores need no gradient: masked_fill would set it to zero in another pass
        scores = scores + bias.to(scores.dtype)
    return quick_dropout(scores.softmax(-1), dropout) @ v


def _fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Scaled dot-product attention, [..., B, heads, L, D] each, mask as in Group."""
    if q.ndim == 4:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    if mask is not None:  # torch's kernels take four dimensions
        mask = mask.expand(len(q), *mask.shape).flatten(0, 1)
    stack = q.shape[:2]
    q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    return out.unflatten(0, stack)


def _attention_of_lengths(qkv: Tensor, group: Group, offsets: Tensor, heads: int, dropout: float) -> Tensor:
    """As Packing.attend, for sequences of any lengths in one call, without padding and mask.

    On a GPU torch computes nested tensors with flash attention in half precision, and with memory-efficient
    attention in float32.
    """
    *stack, tokens, width = qkv.shape
    modules = math.prod(stack)
    ends = torch.arange(modules, device=qkv.device)[:, None] * tokens + offsets[1:]
    bounds = F.pad(ends.flatten(), (1, 0))
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(
            part, bounds, min_seqlen=group.shortest, max_seqlen=group.length
        ).transpose(1, 2)
        for part in qkv.reshape(modules * tokens, 3, heads, -1).transpose(0, 1).contiguous()
    )
    out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2)
    return out.values().reshape(*stack, tokens, width // 3)


def places(mask: Tensor, count: int | None) -> Tensor:
    """Where mask [N] is true, int64. count: in how many places; None: the CPU waits for a GPU to know it."""
    if count is None:
        return mask.nonzero()[:, 0]
    return torch.nonzero_static(mask, size=count)[:, 0]


def _group(lengths: Sequence[int], on_device: Tensor) -> Group:
    longest = lengths[0]
    if lengths[-1] == longest:
        return Group(len(lengths), longest, None, None)
    mask = torch.arange(longest, device=on_device.device) < on_device[:, None]
    return Group(len(lengths), longest, places(mask.flatten(), sum(lengths)), mask[:, None, None, :])


def _split(lengths: Sequence[int], call_cost: int) -> list[tuple[int, int]]:
    """Consecutive groups (start, stop) of lengths in descending order.

    Greedy: a sequence joins the current group unless the group's padding would then cost more than a call.
    """
    bounds = []
    start, wasted, kept = 0, 0, 0
    for i, length in enumerate(lengths):
        waste = lengths[start] ** 2 - length**2
        if waste and wasted + waste > max(call_cost, SLACK * kept):
            bounds.append((start, i))
            start, wasted, kept = i, 0, 0
        else:
            wasted += waste
        kept += length**2
    if lengths:
        bounds.append((start, len(lengths)))
    return bounds


class _Pick(torch.autograd.Function):
    """Select rows, each at most once: the gradient then needs no sum over repeated rows."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = source.shape[-2]
        return source.index_select(-2, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        (grad,) = grads
        return _scattered(grad, index, ctx.rows), None


class _Spread(torch.autograd.Function):
    """The reverse of _Pick: scatter rows into a matrix of `rows` rows, zeros elsewhere."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, index: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(index)
        return _scattered(source, index, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return grads[0].index_select(-2, index), None, None


def _scattered(source: Tensor, index: Tensor, rows: int) -> Tensor:
    shape = (*source.shape[:-2], rows, source.shape[-1])
    return source.new_zeros(shape).index_copy_(source.ndim - 2, index, source)


def pick(source: Tensor, index: Tensor) -> Tensor:
    """source[..., index, :] for int64 [N] without repetitions: [..., M, H] -> [..., N, H]."""
    return _Pick.apply(source, index)


def spread(source: Tensor, index: Tensor, rows: int) -> Tensor:
    """[..., N, H] -> [..., rows, H]: row i to row index[i] (int64 [N], no repetitions), zeros elsewhere."""
    return _Spread.apply(source, index, rows)
