"""The dual encoder that a competent user would write: transformers' BertModel twice, padded, with SDPA."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.models import MMFusionSeparate

CLS, FIRST_WORD = 0, 2
"""Columns of `[CLS] [SEP] tokens [SEP]`."""


class PeerModel(nn.Module):
    """The same two towers with the same weights, computed with padding to the longest of a batch.

    model: an MMFusionSeparate with mean pooling, without projection and without convolutions.
    """

    def __init__(self, model: MMFusionSeparate):
        super().__init__()
        self.video = _bert(model.video_encoder.bert)
        self.text = _bert(model.text_encoder.bert)
        self.mlp = model.video_encoder.videomlp
        self.ends = model.video_encoder.cls_id, model.video_encoder.sep_id
        self.sep_position = model.video_encoder.max_video_len + 1
        self.autocast: str | None = None

    def forward(self, vfeats: Tensor, vmasks: Tensor, caps: Tensor, cmasks: Tensor) -> dict[str, Tensor]:
        """{"pooled_video": [B, H], "pooled_text": [B, H]}, as MMFusionSeparate.forward."""
        with torch.autocast(vfeats.device.type, torch.bfloat16, enabled=self.autocast == "bf16"):
            return {
                "pooled_video": self._clips(vfeats, vmasks),
                "pooled_text": self._prompts(caps, cmasks),
            }

    def _clips(self, vfeats: Tensor, vmasks: Tensor) -> Tensor:
        words = self.video.embeddings.word_embeddings
        ends = words(torch.tensor(self.ends, device=vfeats.device)).expand(len(vfeats), -1, -1)
        tokens = torch.cat([ends[:, :1], self.mlp(vfeats), ends[:, 1:]], 1)
        mask = F.pad(vmasks, (1, 1), value=True)
        positions = torch.arange(tokens.shape[1], device=vfeats.device)
        positions[-1] = self.sep_position
        out = self.video(
            inputs_embeds=tokens, attention_mask=mask.long(), position_ids=positions[None]
        ).last_hidden_state
        return _mean(out[:, 1:], mask[:, 1:])

    def _prompts(self, caps: Tensor, cmasks: Tensor) -> Tensor:
        ids = torch.cat([caps[:, : CLS + 1], caps[:, FIRST_WORD:]], 1)
        mask = torch.cat([cmasks[:, : CLS + 1], cmasks[:, FIRST_WORD:]], 1)
        out = self.text(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return _mean(out[:, 1:], mask[:, 1:])


def _bert(tower: nn.Module) -> nn.Module:
    """transformers' BERT of the size of a tower, with its weights."""
    import transformers

    sizes = {name: getattr(tower.settings, name) for name in vars(tower.settings)}
    sizes["num_hidden_layers"] = len(tower.encoder.layer)
    config = transformers.BertConfig(**sizes, attn_implementation="sdpa")
    bert = transformers.BertModel(config, add_pooling_layer=False)
    weights = {key: value for key, value in tower.state_dict().items() if not key.startswith("pooler.")}
    missing, unexpected = bert.load_state_dict(weights, strict=False)
    assert not unexpected and all(key.endswith("_ids") for key in missing), (missing, unexpected)
    return bert


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)
