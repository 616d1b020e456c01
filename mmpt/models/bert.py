"""BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805), the layers of both towers.

Parameter names are those of published BERT files (`embeddings.word_embeddings.weight`,
`encoder.layer.0.attention.self.query.weight`, ...), so that pretrained text models and fairseq checkpoints
load unchanged. It is implemented here because the video tower passes its own positions and masks to the
layers, and so that a saved model needs no other library.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmpt.models.bert_settings import ACTIVATIONS, BertSettings
from mmpt.models.layers import Dropout, Embedding, LayerNorm, Linear, linear
from mmpt.models.packing import PackedModule, Packing
from mmpt.models.prompts import Prompts
from mmpt.registry import Registry
from mmpt.utils.errors import UserError

TEXT_ENCODERS: Registry[Any] = Registry("text encoder")
"""Name -> a class built from BertSettings."""


class BertEmbeddings(nn.Module):
    """Token vectors plus position and type vectors, normalised."""

    def __init__(self, settings: BertSettings, dropout: float):
        super().__init__()
        width = settings.hidden_size
        self.word_embeddings: nn.Module = Embedding(
            settings.vocab_size, width, padding_idx=settings.pad_token_id
        )
        self.position_embeddings = Embedding(settings.max_position_embeddings, width)
        self.token_type_embeddings = Embedding(settings.type_vocab_size, width)
        self.LayerNorm = LayerNorm(width, eps=settings.layer_norm_eps)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor, token_types: Tensor | None = None) -> Tensor:
        """Token vectors [N, H], position vectors broadcastable to them, type ids int64 [N] (None: all 0)."""
        types = (
            self.token_type_embeddings.weight[..., :1, :]
            if token_types is None
            else self.token_type_embeddings(token_types)
        )
        return self.dropout(self.LayerNorm(tokens + positions + types))


class BertSelfAttention(nn.Module):
    """Multi-head scaled dot-product attention."""

    def __init__(self, settings: BertSettings, dropout: float):
        super().__init__()
        width = settings.hidden_size
        self.heads = settings.num_attention_heads
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.value = Linear(width, width)
        self.dropout = dropout

    def forward(self, hidden: Tensor, packing: Packing) -> Tensor:
        """Attention within each sequence of `packing`: hidden [N, H] -> [N, H]."""
        layers = (self.query, self.key, self.value)
        if all(type(layer) is Linear for layer in layers):
            # one matrix product instead of three; published files name three parameters
            weight = torch.cat([layer.weight for layer in layers], -2)
            bias = torch.cat([layer.bias for layer in layers], -1)
            projected = linear(hidden, weight, bias)
        else:  # a layer with an adapter (finetuning.py)
            projected = torch.cat([layer(hidden) for layer in layers], -1)
        return packing.attend(projected, self.heads, self.dropout if self.training else 0.0)


class ResidualOutput(nn.Module):
    """Linear layer, dropout, residual and LayerNorm."""

    def __init__(self, width_in: int, settings: BertSettings, dropout: float):
        super().__init__()
        self.dense = Linear(width_in, settings.hidden_size)
        self.LayerNorm = LayerNorm(settings.hidden_size, eps=settings.layer_norm_eps)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """Hidden [N, width_in], residual [N, H] -> [N, H]."""
        return self.LayerNorm(self.dropout(self.dense(hidden)) + residual)


class BertAttention(nn.Module):
    """Self-attention with its residual."""

    def __init__(self, settings: BertSettings, attention_dropout: float, hidden_dropout: float):
        super().__init__()
        self.self = BertSelfAttention(settings, attention_dropout)
        self.output = ResidualOutput(settings.hidden_size, settings, hidden_dropout)

    def forward(self, hidden: Tensor, packing: Packing) -> Tensor:
        """Hidden [N, H] -> [N, H]."""
        return self.output(self.self(hidden, packing), hidden)


class BertIntermediate(nn.Module):
    """The first half of the feed-forward block."""

    def __init__(self, settings: BertSettings):
        super().__init__()
        self.dense = Linear(settings.hidden_size, settings.intermediate_size)
        self.activation = ACTIVATIONS[settings.hidden_act]()

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden [N, H] -> [N, intermediate_size]."""
        return self.activation(self.dense(hidden))


class BertLayer(nn.Module):
    """Attention and feed-forward block, each followed by residual and LayerNorm."""

    def __init__(self, settings: BertSettings, attention_dropout: float, hidden_dropout: float):
        super().__init__()
        self.attention = BertAttention(settings, attention_dropout, hidden_dropout)
        self.intermediate = BertIntermediate(settings)
        self.output = ResidualOutput(settings.intermediate_size, settings, hidden_dropout)

    def forward(self, hidden: Tensor, packing: Packing) -> Tensor:
        """Hidden [N, H] -> [N, H]."""
        attended = self.attention(hidden, packing)
        return self.output(self.intermediate(attended), attended)


class BertEncoder(nn.Module):
    """A stack of layers.

    Attributes:
        checkpointing: activation checkpointing: keep only the input of each layer, and recompute the layer in
            the backward pass with the same dropout. Less memory, a third more time (Chen et al. 2016, https://arxiv.org/abs/1604.06174).
    """

    def __init__(
        self, settings: BertSettings, num_layers: int, attention_dropout: float, hidden_dropout: float
    ):
        super().__init__()
        self.layer = nn.ModuleList(
            BertLayer(settings, attention_dropout, hidden_dropout) for _ in range(num_layers)
        )
        self.checkpointing = False

    def forward(self, hidden: Tensor, packing: Packing) -> Tensor:
        """Hidden [N, H] -> [N, H], through all layers."""
        for layer in self.layer:
            if self.checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, packing, use_reentrant=False)
            else:
                hidden = layer(hidden, packing)
        return hidden


class BertPooler(nn.Module):
    """BERT's next-sentence head: in published files, but unused.

    It is frozen, because distributed training fails for parameters that receive no gradient.
    """

    def __init__(self, width: int):
        super().__init__()
        self.dense = Linear(width, width)
        self.requires_grad_(False)


@TEXT_ENCODERS.register("BertModel")
class BertModel(PackedModule):
    """BERT without a head.

    Attributes:
        packed: skip padding; False computes it too, for comparison.

    Args:
        settings: sizes.
        num_layers: layers to build, if not all of `settings.num_hidden_layers`.
        dropout: both dropout rates, if not those of `settings`.
    """

    #: whether it has vectors for the symbols of SignWriting
    reads_signs = False

    def __init__(self, settings: BertSettings, num_layers: int | None = None, dropout: float | None = None):
        super().__init__()
        self.settings = settings
        layers = settings.num_hidden_layers if num_layers is None else num_layers
        hidden_dropout = settings.hidden_dropout_prob if dropout is None else dropout
        attention_dropout = settings.attention_probs_dropout_prob if dropout is None else dropout
        self.embeddings = BertEmbeddings(settings, hidden_dropout)
        self.encoder = BertEncoder(settings, layers, attention_dropout, hidden_dropout)
        self.pooler = BertPooler(settings.hidden_size)
        self.apply(lambda module: init_weights(module, settings.initializer_range))

    @property
    def bert(self) -> "BertModel":
        """The BERT of a text encoder: this one itself (see SignWritingBert)."""
        return self

    def pool(
        self,
        ids: Tensor,
        mask: Tensor,
        pool_words: Callable[[Tensor, Tensor, Prompts | None], Tensor],
        prompts: Prompts | None = None,
    ) -> Tensor:
        """The features [B, H] of prompts `[CLS] tokens [SEP]`, ids int64 [B, L] with mask bool [B, L].

        pool_words: the features of prompts of words, computed with `bert` or from a cache. prompts: what is
        known of them on the CPU.
        """
        return pool_words(ids, mask, prompts)

    @property
    def max_positions(self) -> int:
        """Rows of the position table."""
        return self.embeddings.position_embeddings.num_embeddings

    def forward(
        self,
        input_ids: Tensor,
        mask: Tensor,
        position_ids: Tensor | None = None,
        token_types: Tensor | None = None,
    ) -> Tensor:
        """Last hidden states [B, L, H] of token ids int64 [B, L], zero at padding.

        mask bool [B, L] is true for real tokens.
        position_ids int64 [L] (None: 0, 1, 2, ...), token_types int64 [L] (None: all 0).
        Raises UserError if the sequence is longer than the position table.
        """
        hidden, packing = self.encode(input_ids, mask, position_ids, token_types)
        return packing.unpack(hidden)

    def dropout_sizes(self, packing: Packing) -> list[int]:
        """Elements of each dropout of the layers in training, in order (see DrawnAhead)."""
        tokens = len(packing.rows) * self.settings.hidden_size
        sizes = [tokens] * (self.embeddings.dropout.p > 0)
        for layer in cast("Iterable[BertLayer]", self.encoder.layer):
            attention = layer.attention.self
            sizes += packing.attention_sizes(attention.heads) * (attention.dropout > 0)
            sizes += [tokens] * (layer.attention.output.dropout.p > 0)
            sizes += [tokens] * (layer.output.dropout.p > 0)
        return sizes

    def encode(
        self,
        input_ids: Tensor,
        mask: Tensor,
        position_ids: Tensor | None = None,
        token_types: Tensor | None = None,
        lengths: Sequence[int] | None = None,
    ) -> tuple[Tensor, Packing]:
        """As forward, for the real tokens only: hidden [N, H], and their packing. lengths: see Packing.of."""
        length = input_ids.shape[1]
        if length > self.max_positions:
            raise UserError(
                f"a text has {length} token ids ([CLS] and [SEP] included), but the text model has only "
                f"{self.max_positions} positions: set dataset.max_len to at most {self.max_positions + 1}."
            )
        packing = Packing.of(mask, self.packed, lengths, self.nested)
        columns = packing.columns
        tokens = self.embeddings.word_embeddings(packing.pack(input_ids))
        positions = self.embeddings.position_embeddings(
            columns if position_ids is None else position_ids[columns]
        )
        types = None if token_types is None else token_types[columns]
        return self.encoder(self.embeddings(tokens, positions, types), packing), packing


def init_weights(module: nn.Module, std: float) -> None:
    """BERT's initialisation of one module: normal(0, std) weights, zero biases, neutral LayerNorms."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
    if isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
