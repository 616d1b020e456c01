"""Embedding as a competent user would write it: DataLoader, padded batches, transformers' BertModel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pose_format import Pose
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import BertConfig, BertModel

from mmpt.embedding.embedder import SignCLIP
from mmpt.models.dual_encoder import Space
from mmpt.pose.clip import PoseClip, PoseLayout
from mmpt.pose.components import HANDS, POSE
from mmpt.processors.pose_video import PoseProcessor

BATCH = 64


class PoseFiles(Dataset):
    """Features [T, D] of `.pose` files, from the columns of body and hands, cut to `longest` frames."""

    def __init__(self, paths: Sequence[str], processor: PoseProcessor, longest: int):
        self.paths, self.processor, self.longest = paths, processor, longest
        header = Pose.read(Path(paths[0]).read_bytes()).header
        points = [(part.name, point) for part in header.components for point in part.points]
        needed = {POSE, *HANDS, *processor.prepare.needed}
        self.columns = np.array([i for i, (name, _) in enumerate(points) if name in needed])
        self.layout = PoseLayout.of([points[i] for i in self.columns])
        self.width = float(header.dimensions.width)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with open(self.paths[index], "rb") as file:
            body = Pose.read(file.read()).body
        confidence = body.confidence[:, 0][:, self.columns]
        data = body.data.data[:, 0][:, self.columns] * (confidence != 0)[..., None]
        clip = PoseClip(data, confidence, body.fps, self.layout, self.width)
        features = self.processor.features(self.processor.prepare.clip(clip))
        return torch.from_numpy(features[: self.longest])


def pad(clips: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Clips padded to the longest, and the mask of real frames."""
    lengths = torch.tensor([len(clip) for clip in clips])
    padded = nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


class PeerTower(nn.Module):
    """The video tower of one model: frame MLP, transformers' BertModel, mean pooling, projection."""

    def __init__(self, space: Space):
        super().__init__()
        tower = space.video_encoder
        ours, settings = tower.bert, tower.bert.settings
        config = BertConfig(
            vocab_size=settings.vocab_size,
            hidden_size=settings.hidden_size,
            num_hidden_layers=len(ours.encoder.layer),
            num_attention_heads=settings.num_attention_heads,
            intermediate_size=settings.intermediate_size,
            hidden_act=settings.hidden_act,
            max_position_embeddings=settings.max_position_embeddings,
            type_vocab_size=settings.type_vocab_size,
            layer_norm_eps=settings.layer_norm_eps,
        )
        config._attn_implementation = "sdpa"
        self.bert = BertModel(config).eval()
        self.bert.load_state_dict(ours.state_dict())
        self.mlp, self.projection = tower.videomlp, space.video_projection
        self.ends = torch.tensor([tower.cls_id, tower.sep_id])
        self.last = tower.max_video_len + 1

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Clips [B, T, D] with mask [B, T] -> [B, H]."""
        count, longest = mask.shape
        first, last = self.bert.embeddings.word_embeddings(self.ends).expand(count, 2, -1).split(1, 1)
        tokens = torch.cat([first, self.mlp(frames), last], 1)
        positions = torch.arange(longest + 2).expand(count, -1).clone()
        positions[:, -1] = self.last
        ones = mask.new_ones(count, 1)
        seen = torch.cat([ones, mask, ones], 1)
        hidden = self.bert(inputs_embeds=tokens, attention_mask=seen.long(), position_ids=positions)[0][:, 1:]
        pooled = (hidden * seen[:, 1:, None]).sum(1) / seen[:, 1:].sum(1, keepdim=True)
        return self.projection(pooled)


class PeerTowers(nn.Module):
    """All video towers of a model, their embeddings side by side."""

    def __init__(self, model: SignCLIP):
        super().__init__()
        spaces: Any = getattr(model.model, "members", [model.model])
        self.longest = model.dataset_cfg.max_video_len
        self.towers = nn.ModuleList(PeerTower(space) for space in spaces)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Clips [B, T, D] with mask [B, T] -> [B, towers * H]."""
        return torch.cat([tower(frames, mask) for tower in self.towers], -1)


def embed_with_dataloader(
    towers: PeerTowers, processor: PoseProcessor, paths: Sequence[str], workers: int
) -> np.ndarray:
    """Embed pose files in the order of `paths`: [N, H]."""
    loader = DataLoader(
        PoseFiles(paths, processor, towers.longest), BATCH, num_workers=workers, collate_fn=pad
    )
    with torch.inference_mode():
        return torch.cat([towers(frames, mask) for frames, mask in loader]).numpy()
