"""Position embeddings for sequences that may be longer than the learnt table."""

import torch
from torch import Tensor


def position_vectors(table: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
    """Rows of a position table, stretched for the sequences that are longer than it.

    A sequence of at most R (the number of rows) reads the table unchanged. For a longer one the table is
    interpolated linearly to the sequence's length, as `torch.nn.functional.interpolate(mode="linear",
    align_corners=False)` does. The table and the other sequences of the batch do not change.

    Args:
        table: [R, H].
        positions: int64 [B, L], each below the length of its sequence.
        lengths: int64 [B], the full length of each sequence.

    Returns:
        [B, L, H], in the dtype of the table.
    """
    rows = table.shape[0]
    # float32, as interpolate computes it; exact for a sequence that fits the table
    ratio = (rows / lengths.to(torch.float32)).clamp(max=1.0)[:, None]
    source = ((positions.to(torch.float32) + 0.5) * ratio - 0.5).clamp(min=0, max=rows - 1)
    low = source.floor()
    weight = (source - low).to(table.dtype)[..., None]
    low = low.to(torch.int64)
    high = (low + 1).clamp(max=rows - 1)
    return torch.lerp(table[low], table[high], weight)
