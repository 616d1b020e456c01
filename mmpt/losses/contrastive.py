"""The registry of losses, and what they share: logits of (gathered) embeddings, and their positive pairs."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.config.schema import LossConfig
from mmpt.registry import Registry
from mmpt.utils.distributed import all_gather, all_gather_counts, all_gather_with_grad, rank
from mmpt.utils.errors import UserError

SIMILARITIES = ("dot", "cosine")

LOSSES: Registry[type[nn.Module]] = Registry("loss")
"""loss.loss_cls -> a loss, whose constructor takes the options that it supports (see build_loss)."""


def reshape_scalars(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load hook: reshape this module's parameters that were saved as scalars to [1]."""
    for name, _parameter in module.named_parameters(recurse=False):
        held = state.get(prefix + name)
        if isinstance(held, Tensor) and held.ndim == 0:
            state[prefix + name] = held.reshape(1)


class LogitScale(nn.Module):
    """1 / temperature, fixed or learnt, with an upper bound (CLIP, https://arxiv.org/abs/2103.00020)."""

    def __init__(self, temperature: float, learnable: bool, max_scale: float):
        super().__init__()
        if not temperature > 0 or not max_scale > 0:
            raise UserError(
                f"loss.temperature ({temperature}) and loss.max_logit_scale ({max_scale}) must be above 0."
            )
        if learnable and 1 / temperature > max_scale:
            raise UserError(
                f"loss.temperature {temperature} means a logit scale of {1 / temperature:g}, above "
                f"loss.max_logit_scale {max_scale}: a learnable temperature must start below the bound."
            )
        self.fixed = 1.0 / temperature
        self.max_log = math.log(max_scale)
        self.log_scale = nn.Parameter(torch.tensor([-math.log(temperature)])) if learnable else None
        # shape [1] for fairseq's legacy_ddp; older checkpoints have a scalar
        self.register_load_state_dict_pre_hook(reshape_scalars)

    def forward(self) -> float | Tensor:
        """The factor of the logits, of shape [1] if it is learnt."""
        if self.log_scale is None:
            return self.fixed
        with torch.no_grad():  # clamps the parameter, as CLIP: a clamped value would have no gradient
            self.log_scale.clamp_(max=self.max_log)
        return self.log_scale.exp()


@dataclass
class Block:
    """This process's rows of the similarity matrices of the global batch.

    n of the N pairs belong to this process: `start` to `start + n`. Of an ensemble: of each of its M models.
    """

    video_to_text: Tensor
    """[n, N] or [M, n, N]: my clips against all prompts."""
    text_to_video: Tensor
    """[n, N] or [M, n, N]: my prompts against all clips."""
    positives: tuple[Tensor, Tensor] | None
    """bool [n, N] of each matrix: the pairs of which the prompt describes the clip; None without labels."""
    start: int
    processes: int = 1
    """Number of processes that have rows."""

    @property
    def targets(self) -> Tensor:
        """int64 [n]: column of each row's positive pair."""
        rows = self.video_to_text.shape[-2]
        return torch.arange(self.start, self.start + rows, device=self.video_to_text.device)

    @property
    def share(self) -> float:
        """Scales a sum over this process's rows so that the mean over processes is the global mean."""
        *models, _, pairs = self.video_to_text.shape
        return self.processes / (pairs * math.prod(models))


def similarity_block(
    video: Tensor, text: Tensor, labels: Tensor | None, similarity: str, gather: bool
) -> Block:
    """Similarities of n clips [n, H] and their n prompts [n, H], with `gather` also those of all processes.

    Without `gather` also of the M models of an ensemble, [M, n, H]. Computed in float32 or wider. labels:
    int64 [n] or [n, K] (see `describes`), or None. With `gather`, a process without rows (n = 0) must call
    this too.
    """
    if not 2 <= video.ndim <= 3 - gather or video.shape != text.shape:
        raise UserError(
            f"a contrastive loss got embeddings of shapes {tuple(video.shape)} and {tuple(text.shape)}; "
            "expected as many clips as prompts, of the same dimension."
        )
    kind = torch.promote_types(video.dtype, torch.float32)
    with torch.autocast(video.device.type, enabled=False):
        video, text = video.to(kind), text.to(kind)
        if similarity == "cosine":
            video, text = F.normalize(video, dim=-1), F.normalize(text, dim=-1)
        if not gather:
            logits = video @ text.mT
            return Block(logits, logits.mT, _positives(labels, labels), 0)
        counts = all_gather_counts(video)
        all_video, all_text = all_gather_with_grad(video, counts), all_gather_with_grad(text, counts)
        positives = _positives(labels, None if labels is None else all_gather(labels, counts))
        with_rows = sum(count > 0 for count in counts)
        return Block(video @ all_text.T, text @ all_video.T, positives, sum(counts[: rank()]), with_rows)


def describes(prompts: Tensor, clips: Tensor) -> Tensor:
    """bool [P, N]: whether each of P prompts describes each of N clips.

    Labels int64 [P] and [N]: equal labels. Labels [P, K] and [N, K]: a row holds the label of the pair's
    prompt, then the labels of all prompts that describe its clip (repeated to fill the row).
    """
    if clips.ndim == 1:
        return prompts[:, None] == clips
    return (prompts[:, :1, None] == clips.T[None, 1:]).any(1)


def _positives(own: Tensor | None, all_rows: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """The positives of this process's clips among all prompts, and of its prompts among all clips."""
    if own is None or all_rows is None:
        return None
    return describes(all_rows, own).T, describes(own, all_rows)


def needs_common_batches(loss_cfg: LossConfig) -> bool:
    """Whether the sampler must draw the global batch, so that no prompt occurs twice across processes.

    With loss.gather and without label_aware, equal prompts of two processes would be negatives.
    """
    return loss_cfg.gather and not loss_cfg.label_aware


def check_similarity(similarity: str) -> None:
    """Raises UserError for an unknown similarity."""
    if similarity not in SIMILARITIES:
        raise UserError(f"loss.similarity is {similarity!r}; expected {' or '.join(SIMILARITIES)}.")
