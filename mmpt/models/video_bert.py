"""The video tower MMBertForEncoder of VideoCLIP/MMPT: frame features -> frame MLP -> BERT layers.

Xu et al. 2021, VideoCLIP, https://arxiv.org/abs/2109.14084; Jiang et al. 2024, SignCLIP,
https://arxiv.org/abs/2407.01264.
"""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.models.bert import BertModel, init_weights
from mmpt.models.bert_settings import ACTIVATIONS, BertSettings
from mmpt.models.layers import DrawnAhead, Dropout, LayerNorm, Linear
from mmpt.models.packing import PackedModule, Packing, pick, places
from mmpt.registry import Registry
from mmpt.utils.errors import UserError

VIDEO_ENCODERS: Registry["type[MMBertForEncoder]"] = Registry("video encoder")
"""Name -> a class built as VIDEO_ENCODER(settings: BertSettings, options: VideoTowerOptions)."""
KERNEL = 17
"""Kernel size of a convolution, in frames."""


class VideoConv1D(nn.Module):
    """`num_layers` convolutions over time before the frame MLP, each of `width` channels.

    MMPT pads every clip with zero frames to `max_video_len` before the convolutions. From the second layer
    on, the padding contains the bias of the previous layer, which leaks into the last real frames. This gives
    the same result in every batch, and computes only the padding that has an influence.
    """

    def __init__(self, width: int, num_layers: int):
        super().__init__()
        self.num_layers = num_layers
        for i in range(num_layers):
            setattr(self, f"conv1d_{i}", nn.Conv1d(width, width, KERNEL, padding="same"))

    def forward(self, frames: Tensor, clip_lengths: Tensor) -> Tensor:
        """Frames [B, T, D], zero at padding -> [B, T, D].

        clip_lengths int64 [B]: length of each clip with MMPT's padding.
        """
        length = frames.shape[1]
        reach = (KERNEL // 2) * (self.num_layers - 1)  # padded frames that influence a real frame
        frames = F.pad(frames, (0, 0, 0, reach))
        inside = torch.arange(frames.shape[1], device=frames.device) < clip_lengths[:, None]
        frames = frames.transpose(1, 2)
        for i in range(self.num_layers):
            frames = getattr(self, f"conv1d_{i}")(frames) * inside[:, None]
        return frames.transpose(1, 2)[:, :length]


class VideoTokenMLP(nn.Module):
    """Frame -> token vector: linear, activation, LayerNorm (eps 1e-5), dropout, linear, dropout."""

    def __init__(self, vfeat_dim: int, settings: BertSettings, dropout: float):
        super().__init__()
        self.linear1 = Linear(vfeat_dim, settings.hidden_size)
        self.activation = ACTIVATIONS[settings.hidden_act]()
        # torch's eps, not BERT's: published weights expect it
        self.LayerNorm = LayerNorm(settings.hidden_size)
        self.linear2 = Linear(settings.hidden_size, settings.hidden_size)
        self.dropout = Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """[..., vfeat_dim] -> [..., H]."""
        hidden = self.dropout(self.LayerNorm(self.activation(self.linear1(frames))))
        return self.dropout(self.linear2(hidden))


@dataclass(frozen=True)
class VideoTowerOptions:
    """Options of a video tower, besides the sizes of the text model.

    Args:
        vfeat_dim: feature dimension per frame.
        max_video_len: number of frames to which MMPT pads every clip.
        num_layers: BERT layers, at most `settings.num_hidden_layers`.
        cls_id, sep_id: token ids of [CLS] and [SEP].
        conv1d: convolutions before the frame MLP; 0: none.
        dropout: all dropout rates; None: the text model's in the layers, and none in the frame MLP.
    """

    vfeat_dim: int
    max_video_len: int
    num_layers: int
    cls_id: int
    sep_id: int
    conv1d: int = 0
    dropout: float | None = None


@VIDEO_ENCODERS.register("MMBertForEncoder")
class MMBertForEncoder(PackedModule):
    """[CLS] frames [SEP] through a frame MLP and the first layers of a BERT.

    A clip of n frames counts as m = max(n, max_video_len) frames. Frame i has position i + 1 and [SEP] has
    position m + 1 in every batch, as in MMPT with padding to max_video_len. If m + 2 exceeds the rows of the
    position table, the table is interpolated to m + 2 for that clip (see position_vectors).

    Args:
        settings: sizes of the text model that the layers come from.
        options: see VideoTowerOptions.
    """

    def __init__(self, settings: BertSettings, options: VideoTowerOptions):
        super().__init__()
        if not 1 <= options.num_layers <= settings.num_hidden_layers:
            raise UserError(
                f"model.num_hidden_video_layers is {options.num_layers}, but the pretrained text model has "
                f"{settings.num_hidden_layers} layers: set it to 1 ... {settings.num_hidden_layers}, or use "
                "a larger dataset.bert_name."
            )
        self.vfeat_dim = options.vfeat_dim
        self.max_video_len = options.max_video_len
        self.cls_id = options.cls_id
        self.sep_id = options.sep_id
        self.videoconv = VideoConv1D(options.vfeat_dim, options.conv1d) if options.conv1d else None
        self.videomlp = VideoTokenMLP(options.vfeat_dim, settings, options.dropout or 0.0)
        self.videomlp.apply(lambda module: init_weights(module, settings.initializer_range))
        self.bert = BertModel(settings, options.num_layers, options.dropout)

    def forward(self, vfeats: Tensor, vmasks: Tensor) -> tuple[Tensor, Tensor]:
        """Last hidden states, and the mask for pooling.

        Args:
            vfeats: float [B, T, vfeat_dim].
            vmasks: bool [B, T], true for a real frame. Other frames may have any value.

        Returns:
            hidden [B, T' + 1, H]: frames, then [SEP], without [CLS]; T' is the longest clip of the batch;
            zero at masked frames; mask bool [B, T' + 1].
        """
        hidden, packing, pooled = self.encode(vfeats, vmasks)
        return packing.unpack(hidden)[:, 1:], packing.unpack(pooled[:, None])[:, 1:, 0]

    def encode(
        self, vfeats: Tensor, vmasks: Tensor, known: Sequence[int] | None = None
    ) -> tuple[Tensor, Packing, Tensor]:
        """As forward, for the real tokens only.

        known: frames of each clip, with padding after them; None: the CPU waits for a GPU to know them.

        Returns:
            hidden [N, H] of [CLS], frames and [SEP]; their packing; bool [N], the tokens that are pooled (all
            but [CLS]).
        """
        self._check(vfeats, vmasks)
        vmasks = vmasks.bool()
        index = torch.arange(1, vmasks.shape[1] + 1, device=vmasks.device)
        lengths = (vmasks * index).amax(1) if vmasks.numel() else vmasks.sum(1)
        if self.packed:
            longest = max(lengths.tolist() if known is None else known, default=0)
            vfeats, vmasks = vfeats[:, :longest], vmasks[:, :longest]
        padded = lengths.clamp(min=self.max_video_len)  # the m of the docstring above
        tokens_of = None if known is None else [frames + 2 for frames in known]
        packing = Packing.of(F.pad(vmasks, (1, 1), value=True), self.packed, tokens_of, self.nested)
        sequences, columns = packing.sequences, packing.columns
        is_cls, is_sep = columns == 0, columns == vmasks.shape[1] + 1
        # each sequence has a [CLS] and a [SEP]; of a plain packing, the ONNX export does not know the size
        of_each = None if packing.plain else packing.batch
        inner = places(~(is_cls | is_sep), None if of_each is None else len(columns) - 2 * of_each)

        frames = self._frames(vfeats, vmasks, padded, (sequences[inner], columns[inner] - 1))
        with self._drawn_ahead(packing, len(frames)):
            tokens = self.videomlp(frames)
            embeddings = self.bert.embeddings
            ids = [torch.full((1,), i, device=vfeats.device) for i in (self.cls_id, self.sep_id)]
            ends = embeddings.word_embeddings(torch.cat(ids))
            first, last = (
                ends.to(tokens.dtype)[..., None, :].expand(*ends.shape[:-1], packing.batch, -1).unbind(-3)
            )
            order = torch.cat([places(is_cls, of_each), inner, places(is_sep, of_each)])
            tokens = pick(torch.cat([first, tokens, last], -2), order.argsort())
            positions = self._positions(columns, is_sep, padded[sequences], longest=vmasks.shape[1])
            hidden = self.bert.encoder(embeddings(tokens, positions), packing)
        return hidden, packing, ~is_cls & (packing.pack(F.pad(vmasks, (1, 1), value=True)))

    def _drawn_ahead(self, packing: Packing, frames: int) -> AbstractContextManager[object]:
        """With stacked weights (see ensemble.py), the random numbers of each module's dropout."""
        shape = self.videomlp.linear1.weight.shape
        if not self.training or len(shape) == 2 or packing.rows.device.type != "cpu":
            return contextlib.nullcontext()
        of_frames = [frames * shape[-2]] * 2 * (self.videomlp.dropout.p > 0)
        return DrawnAhead(shape[0], [*of_frames, *self.bert.dropout_sizes(packing)])

    def _frames(self, vfeats: Tensor, vmasks: Tensor, padded: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
        """The frames among the computed tokens, after the convolutions: [M, vfeat_dim], zero where masked.

        place: row and column of each of them.
        """
        vfeats = vfeats.to(self.videomlp.linear1.weight.dtype)
        if self.videoconv is not None:  # masked_fill, because a padded frame may be NaN
            vfeats = self.videoconv(vfeats.masked_fill(~vmasks[..., None], 0), padded)
        row, column = place
        frames = pick(vfeats.flatten(0, 1), row * vfeats.shape[1] + column)
        return frames if self.packed else frames.masked_fill(~vmasks[row, column][:, None], 0)

    def _positions(self, columns: Tensor, is_sep: Tensor, padded: Tensor, longest: int) -> Tensor:
        """Position embeddings [N, H] of the tokens in these columns.

        padded: length of each token's clip with padding; longest: frames of the longest clip.
        """
        table = self.bert.embeddings.position_embeddings.weight
        ids = torch.where(is_sep, padded + 1, columns)
        if max(longest, self.max_video_len) + 2 <= table.shape[-2]:
            return self.bert.embeddings.position_embeddings(ids)
        if table.ndim == 3:
            return torch.stack([position_vectors(each, ids[:, None], padded + 2)[:, 0] for each in table])
        return position_vectors(table, ids[:, None], padded + 2)[:, 0]

    def _check(self, vfeats: Tensor, vmasks: Tensor) -> None:
        if vfeats.ndim != 3 or vmasks.shape != vfeats.shape[:2]:
            raise UserError(
                f"vfeats have shape {tuple(vfeats.shape)} and vmasks {tuple(vmasks.shape)}; expected "
                "[clips, frames, features] and [clips, frames]."
            )
        if vfeats.shape[2] != self.vfeat_dim:
            raise UserError(
                f"the features have {vfeats.shape[2]} dimensions per frame, but the video tower expects "
                f"{self.vfeat_dim} (model.vfeat_dim): features and config do not match."
            )


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
