"""The video tower: frames of numbers -> frame MLP -> BERT layers -> one vector (MMBertForEncoder of
VideoCLIP/MMPT).

Xu et al. 2021, VideoCLIP, https://arxiv.org/abs/2109.14084; Jiang et al. 2024, SignCLIP,
https://arxiv.org/abs/2407.01264.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.models.bert import BertModel, init_weights
from mmpt.models.bert_settings import ACTIVATIONS, BertSettings
from mmpt.models.dropout import Dropout
from mmpt.models.packing import PackedModule, Packing, pick
from mmpt.models.positions import position_vectors
from mmpt.models.registry import VIDEO_ENCODERS
from mmpt.utils.errors import UserError

KERNEL = 17
"""Frames that one convolution sees."""


class VideoConv1D(nn.Module):
    """`num_layers` convolutions over time in front of the frame MLP, each of `width` channels.

    The ancestor pads every clip with zero frames to `max_video_len` before it convolves, so from the second
    layer on the padding holds the bias of the layer before, and reaches into the last real frames. We give
    that result for every clip, whatever it is batched with, and compute only the padding that matters.
    """

    def __init__(self, width: int, num_layers: int):
        super().__init__()
        self.num_layers = num_layers
        for i in range(num_layers):
            setattr(self, f"conv1d_{i}", nn.Conv1d(width, width, KERNEL, padding="same"))

    def forward(self, frames: Tensor, clip_lengths: Tensor) -> Tensor:
        """frames [B, T, D], zero where there is none; clip_lengths int64 [B]: frames of each clip with the
        padding that counts as its own. Returns [B, T, D]."""
        length = frames.shape[1]
        reach = (KERNEL // 2) * (self.num_layers - 1)  # padded frames whose values come back to a real frame
        frames = F.pad(frames, (0, 0, 0, reach))
        inside = torch.arange(frames.shape[1], device=frames.device) < clip_lengths[:, None]
        frames = frames.transpose(1, 2)
        for i in range(self.num_layers):
            frames = getattr(self, f"conv1d_{i}")(frames) * inside[:, None]
        return frames.transpose(1, 2)[:, :length]


class VideoTokenMLP(nn.Module):
    """A frame -> a token vector: linear, activation, LayerNorm (eps 1e-5), linear; dropout behind the last
    two."""

    def __init__(self, vfeat_dim: int, settings: BertSettings, dropout: float):
        super().__init__()
        self.linear1 = nn.Linear(vfeat_dim, settings.hidden_size)
        self.activation = ACTIVATIONS[settings.hidden_act]()
        # torch's eps, not BERT's: published weights expect it
        self.LayerNorm = nn.LayerNorm(settings.hidden_size)
        self.linear2 = nn.Linear(settings.hidden_size, settings.hidden_size)
        self.dropout = Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """[..., vfeat_dim] -> [..., H]."""
        hidden = self.dropout(self.LayerNorm(self.activation(self.linear1(frames))))
        return self.dropout(self.linear2(hidden))


@dataclass(frozen=True)
class VideoTowerOptions:
    """What a video tower needs to know beside the sizes of the text model.

    Args:
        vfeat_dim: feature dimension per frame.
        max_video_len: number of frames to which the ancestor pads every clip.
        num_layers: BERT layers, at most `settings.num_hidden_layers`: the text model has no others to
            initialise from.
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

    A clip of n frames counts as m = max(n, max_video_len) frames, the ones behind the n being padding. Frame
    i takes position i + 1 and [SEP] position m + 1, whatever the clip is batched with: this equals the
    ancestor where it pads to max_video_len. If m + 2 is more than the rows of the position table, the table
    is stretched to m + 2 for that clip (see positions.py).

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
        """Last hidden states, and which of them count for pooling.

        Args:
            vfeats: float [B, T, vfeat_dim].
            vmasks: bool [B, T], true for a real frame. Other frames may hold anything.

        Returns:
            hidden [B, T' + 1, H]: frames, then [SEP] ([CLS] left out), T' being the longest clip of the
            batch, zero behind masked frames; mask bool [B, T' + 1].
        """
        hidden, packing, pooled = self.encode(vfeats, vmasks)
        return packing.unpack(hidden)[:, 1:], packing.unpack(pooled[:, None])[:, 1:, 0]

    def encode(self, vfeats: Tensor, vmasks: Tensor) -> tuple[Tensor, Packing, Tensor]:
        """As forward, but the real tokens only.

        Returns:
            hidden [N, H] of [CLS], frames and [SEP]; which tokens these are; bool [N], those that are pooled
            (all but [CLS]).
        """
        self._check(vfeats, vmasks)
        vmasks = vmasks.bool()
        index = torch.arange(1, vmasks.shape[1] + 1, device=vmasks.device)
        lengths = (vmasks * index).amax(1) if vmasks.numel() else vmasks.sum(1)
        if self.packed:
            longest = int(lengths.max()) if len(lengths) else 0
            vfeats, vmasks = vfeats[:, :longest], vmasks[:, :longest]
        padded = lengths.clamp(min=self.max_video_len)  # the frames that a clip counts as
        packing = Packing.of(F.pad(vmasks, (1, 1), value=True), self.packed)
        sequences, columns = packing.sequences, packing.columns
        is_cls, is_sep = columns == 0, columns == vmasks.shape[1] + 1

        tokens = self.videomlp(
            self._frames(vfeats, vmasks, padded, (sequences, columns - 1), is_cls | is_sep)
        )
        embeddings = self.bert.embeddings
        ends = embeddings.word_embeddings(torch.tensor([self.cls_id, self.sep_id], device=vfeats.device))
        first, last = (row.to(tokens.dtype).expand(packing.batch, -1) for row in ends)
        order = torch.cat([part.nonzero()[:, 0] for part in (is_cls, ~(is_cls | is_sep), is_sep)])
        tokens = pick(torch.cat([first, tokens, last]), order.argsort())
        positions = self._positions(columns, is_sep, padded[sequences], longest=vmasks.shape[1])
        hidden = self.bert.encoder(embeddings(tokens, positions), packing)
        return hidden, packing, ~is_cls & (packing.pack(F.pad(vmasks, (1, 1), value=True)))

    def _frames(
        self, vfeats: Tensor, vmasks: Tensor, padded: Tensor, place: tuple[Tensor, Tensor], ends: Tensor
    ) -> Tensor:
        """[M, vfeat_dim]: the frames among the computed tokens, convolved if the tower does that; zero where
        masked. place: row and column of each token, of which `ends` are no frames."""
        vfeats = vfeats.to(self.videomlp.linear1.weight.dtype)
        if self.videoconv is not None:  # masked_fill, not a product: a padded frame may hold NaN
            vfeats = self.videoconv(vfeats.masked_fill(~vmasks[..., None], 0), padded)
        row, column = (part[~ends] for part in place)
        frames = pick(vfeats.flatten(0, 1), row * vfeats.shape[1] + column)
        return frames if self.packed else frames.masked_fill(~vmasks[row, column][:, None], 0)

    def _positions(self, columns: Tensor, is_sep: Tensor, padded: Tensor, longest: int) -> Tensor:
        """Position vectors [N, H] of the tokens in these columns, `padded` being the frames that the clip of
        each counts as, and `longest` those of the longest."""
        table = self.bert.embeddings.position_embeddings.weight
        ids = torch.where(is_sep, padded + 1, columns)
        if max(longest, self.max_video_len) + 2 <= len(table):
            return self.bert.embeddings.position_embeddings(ids)
        return position_vectors(table, ids[:, None], padded + 2)[:, 0]

    def _check(self, vfeats: Tensor, vmasks: Tensor) -> None:
        if vfeats.ndim != 3 or vmasks.shape != vfeats.shape[:2]:
            raise UserError(
                f"vfeats have shape {tuple(vfeats.shape)} and vmasks {tuple(vmasks.shape)}; "
                "[clips, frames, numbers] and [clips, frames] were expected."
            )
        if vfeats.shape[2] != self.vfeat_dim:
            raise UserError(
                f"frames of {vfeats.shape[2]} numbers were given to a video tower made for {self.vfeat_dim} "
                "(model.vfeat_dim): the features and the config do not belong together."
            )
