"""Position vectors for sequences that may be longer than the table that was learnt."""

import torch
from torch import Tensor


def position_vectors(table: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
    """Rows of a position table, stretched for the sequences that are longer than it.

    A sequence whose length is at most the number of rows R reads the table as it is. For a longer one the
    table is stretched linearly to that sequence's own length (half-pixel centres, the ends not aligned, as
    `torch.nn.functional.interpolate(mode="linear", align_corners=False)` does) and read there; neither the
    table nor the other sequences of the batch are touched.

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
