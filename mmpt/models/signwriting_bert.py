"""A text tower that reads SignWriting: BERT for the words of a prompt, composed embeddings for its signs."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmpt.models.bert import TEXT_ENCODERS, BertModel
from mmpt.models.bert_settings import BertSettings
from mmpt.models.packing import PackedModule
from mmpt.models.prompts import Prompts
from mmpt.signwriting.glyphs import PICTURE_DIM, shapes
from mmpt.signwriting.hand_shapes import SHAPE_DIM, described_shapes
from mmpt.signwriting.ids import BASES, FIRST_ID, MOST_SIGNS, unpack
from mmpt.signwriting.signs import FILLS, FIRST_BASE, GROUPS, HANDS, ROTATIONS

_TURNS = ROTATIONS // 2
"""Rotations in steps of 45 degrees; the other half is mirrored."""
_PLACE_SCALE = 50.0
_STD = 0.05
"""Of the initial values."""


class SymbolEmbeddings(nn.Module):
    """The vector of a symbol: the sum of the vectors of its parts.

    Parts: base symbol, its group, the shape of the base, fill, rotation, fill with
    rotation, mirrored or not, place in the box, and number of the sign in the prompt. Hands and other symbols
    have their own fills and rotations. The vector of a base symbol starts at zero, so one that no training
    prompt contains is described by its other parts. The vector of a place is linear in x and y, with weights
    for each symbol group, so that the sum over a sign tells which symbol is where; they start at zero too.

    Args:
        width: H.
        dim: D, of the description of a base symbol's shape.
        shapes_of_bases: computes these descriptions, float32 [652, D].
    """

    shapes: Tensor

    def __init__(self, width: int, dim: int, shapes_of_bases: Callable[[], NDArray[np.float32]]):
        super().__init__()
        self.base = nn.Embedding(BASES, width)
        self.group = nn.Embedding(len(GROUPS), width)
        self.fill = nn.Embedding(2 * FILLS, width)
        self.rotation = nn.Embedding(2 * _TURNS, width)
        self.fill_and_rotation = nn.Embedding(2 * FILLS * _TURNS, width)
        self.mirrored = nn.Embedding(4, width)
        self.shape = nn.Linear(dim, width, bias=False)
        self.place = nn.Embedding(len(GROUPS), 2 * width)
        self.order = nn.Embedding(MOST_SIGNS, width)
        for name, weight in self.named_parameters():
            starts_at_zero = name in ("base.weight", "place.weight", "order.weight")
            nn.init.normal_(weight, std=0.0 if starts_at_zero else _STD)
        table = torch.empty(BASES, dim)
        if table.device.type != "meta":  # where the weights come from a file, so does the table
            table.copy_(torch.from_numpy(shapes_of_bases()))
        self.register_buffer("shapes", table)

    def forward(self, ids: Tensor) -> Tensor:
        """Packed ids int64 [...] (signwriting.ids) -> [..., H]."""
        part = unpack(ids)
        base, fill, rotation = part["base"], part["fill"], part["rotation"]
        starts = torch.tensor(GROUPS, device=ids.device) - FIRST_BASE
        group = (base[..., None] >= starts).sum(-1) - 1
        other = (group >= HANDS).long()
        turn, mirrored = rotation % _TURNS, rotation // _TURNS
        at = torch.stack([part["x"], part["y"]], -1).to(self.place.weight.dtype) / _PLACE_SCALE
        place = (self.place(group).unflatten(-1, (2, -1)) * at[..., None]).sum(-2)
        return (
            self.base(base)
            + self.group(group)
            + self.shape(self.shapes[base])
            + place
            + self.order(part["sign"])
            + 0.5 * self.fill(other * FILLS + fill)
            + 0.5 * self.rotation(other * _TURNS + turn)
            + 0.5 * self.fill_and_rotation((other * FILLS + fill) * _TURNS + turn)
            + 0.5 * self.mirrored(other * 2 + mirrored)
        )


@TEXT_ENCODERS.register("SignWritingBert")
class SignWritingBert(PackedModule):
    """Reads prompts of words, of signs in SignWriting, or of both (see SignWritingTextProcessor).

    The feature of a prompt is BERT's feature of its words, plus the sum of the embeddings of its symbols. A
    prompt of words has the same feature as with BertModel. With model.freeze_text BERT is frozen, and the
    embeddings of symbols are trained.

    The shape of a base symbol is described by its picture.

    Args: as BertModel.
    """

    reads_signs = True
    shape_dim = PICTURE_DIM
    shapes_of_bases = staticmethod(shapes)

    def __init__(self, settings: BertSettings):
        super().__init__()
        self.bert = BertModel(settings)
        self.symbols = SymbolEmbeddings(settings.hidden_size, self.shape_dim, self.shapes_of_bases)

    @property
    def settings(self) -> BertSettings:
        """Sizes of the BERT."""
        return self.bert.settings

    def pool(
        self,
        ids: Tensor,
        mask: Tensor,
        pool_words: Callable[[Tensor, Tensor, Prompts | None], Tensor],
        prompts: Prompts | None = None,
    ) -> Tensor:
        """See BertModel.pool; the ids of symbols come after all words."""
        is_symbol = mask & (ids >= FIRST_ID)
        words = mask & ~is_symbol
        symbols = self.symbols(ids.where(is_symbol, FIRST_ID))
        signs = (symbols * is_symbol[..., None]).sum(1)
        width = max(int(words.sum(1).max()), 2) if self.packed and len(ids) else ids.shape[1]
        pooled = pool_words(ids.where(words, 0)[:, :width], words[:, :width], None)
        has_words = words.sum(1, keepdim=True) > 2  # more than [CLS] and [SEP]
        return pooled * has_words + signs


@TEXT_ENCODERS.register("SignWritingHamNoSysBert")
class SignWritingHamNoSysBert(SignWritingBert):
    """SignWritingBert in which hand shapes are described by the parts of their HamNoSys as well."""

    shape_dim = SHAPE_DIM
    shapes_of_bases = staticmethod(described_shapes)
