"""One training update, plain or of mmpt, with the time of each part."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peer import PeerModel
from mmpt.config.fairseq_options import option
from mmpt.datasets.mmdataset import MMDataset, collate
from mmpt.models import MMBertForEncoder, MMFusionSeparate, VideoTowerOptions
from mmpt.models.bert import BertModel, BertSelfAttention, BertSettings
from mmpt.models.packing import set_packed
from mmpt.models.word_rows import train_used_rows
from mmpt.tasks import Task

PARTS = ("data", "forward", "backward", "optimizer")
WAYS = {
    "peer": "transformers' BertModel twice, SDPA, padded to the batch's longest, fused AdamW, fp32",
    "peer bf16": "the same with bf16 autocast",
    "plain": "all padded to the maximum, fp32, torch's own dropout, an optimizer that is not fused",
    "fp32": "mmpt, fp32",
    "bf16": "mmpt, bf16 autocast",
}
OURS = ("fp32", "bf16")


class Trainer:
    """A model and its optimizer, trained one of WAYS.

    seconds: what update() took so far, by part, on the clock (of the device too, where there is one).
    warmup: updates over which the learning rate grows to `rate`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        way: str,
        device: torch.device,
        rate: float,
        warmup: int = 0,
    ):
        self.plain = way == "plain"
        set_packed(model, way in OURS)
        self.model = (PeerModel(model) if way.startswith("peer") else model).to(device).train()
        self.loss = loss.to(device)
        self.way = way
        self.device = device
        self.model.autocast = "bf16" if way.endswith("bf16") else None
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        # fairseq's own Adam goes over the parameters one by one, as torch's does when it is not fused
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=not self.plain, foreach=False
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda done: min(1.0, (done + 1) / warmup) if warmup else 1.0
        )
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @classmethod
    def of_task(
        cls, task: Task, way: str, device: torch.device, dropout: bool = True, warmup: int = 0
    ) -> "Trainer":
        """The task's model with its initial weights, at its learning rate; `dropout` off: without any."""
        torch.manual_seed(0)
        rates = option(task.config.fairseq, "lr", [5e-5])
        rate = float(rates[0] if isinstance(rates, list) else rates)
        model = task.build_model()
        if way in OURS:  # as the plugin of fairseq does
            train_used_rows(model, task.dataset("train").token_ids())
        trainer = cls(model, task.build_loss(), way, device, rate, warmup)
        if not dropout:
            without_dropout(trainer.model)
        return trainer

    def update(self, batch: dict[str, Any]) -> float:
        """One update on a collated batch; returns the loss."""
        with self.timed("forward"):
            names = ("vfeats", "vmasks", "caps", "cmasks")
            inputs = [batch[name].to(self.device, non_blocking=True) for name in names]
            layout = [batch["layout"]] if self.way in OURS and "layout" in batch else []
            out = self.model(*inputs, *layout)
            labels = batch["label"].to(self.device)
            value = self.loss(out["pooled_video"].float(), out["pooled_text"].float(), labels=labels)
        with self.timed("backward"):
            value.backward()
        with self.timed("optimizer"):
            nn.utils.clip_grad_norm_(self.trained, 2.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.schedule.step()
        return float(value.detach())

    def epoch(
        self, dataset: MMDataset, batches: Sequence[Sequence[int]], padding: tuple[int, int]
    ) -> list[float]:
        """Updates on these batches of a data set, reading them included; returns their losses.

        padding: frames and token ids to which the plain way pads.
        """
        losses = []
        for indices in batches:
            with self.timed("data"):
                batch = self.read(dataset, indices, padding)
            losses.append(self.update(batch))
        return losses

    def read(self, dataset: MMDataset, indices: Sequence[int], padding: tuple[int, int]) -> dict[str, Any]:
        """A batch of a data set, padded as this way pads."""
        frames, tokens = padding if self.plain else (None, None)
        return collate([dataset[i] for i in indices], dataset.text_processor.pad_id, frames, tokens)

    def flops(self, batches: Sequence[dict[str, Any]]) -> int:
        """Floating point operations of the matrix products of updates on these batches (which it does)."""
        with FlopCounterMode(display=False) as counter:
            for batch in batches:
                self.update(batch)
        return int(counter.get_total_flops())

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the seconds of a block to a part of the update."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.seconds[part] += time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Products:
    """Products of large square matrices: the limit of a device, to compare updates with."""

    def __init__(self, way: str, device: torch.device):
        size, self.times = (8192, 20) if device.type == "cuda" else (2048, 4)
        dtype = torch.bfloat16 if way.endswith("bf16") else torch.float32
        self.matrix = torch.randn(size, size, device=device).to(dtype)
        self.flops = 2 * size**3 * self.times

    def __call__(self) -> None:
        """Do them; they are done when it returns."""
        for _ in range(self.times):
            torch.mm(self.matrix, self.matrix)
        if self.matrix.is_cuda:
            torch.cuda.synchronize(self.matrix.device)


def without_dropout(model: nn.Module) -> None:
    """Switch dropout off, so that two variants can be compared exactly."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, BertSelfAttention):
            module.dropout = 0.0


def fresh_model(settings: BertSettings, vfeat_dim: int, frames: int, video_layers: int) -> MMFusionSeparate:
    """Two towers of these sizes with random weights, to measure speed."""
    torch.manual_seed(0)
    layers = min(video_layers, settings.num_hidden_layers)
    options = VideoTowerOptions(vfeat_dim, frames, layers, cls_id=101, sep_id=102)
    return MMFusionSeparate(MMBertForEncoder(settings, options), BertModel(settings))


def generated_batch(clips: int, frames: int, tokens: int, width: int, vary: bool = False) -> dict[str, Any]:
    """A batch of random clips and different prompts of these lengths.

    vary: clips of 1 to `frames` frames, evenly spread.
    """
    generator = torch.Generator().manual_seed(0)
    lengths = torch.full((clips,), frames)
    if vary:
        lengths = torch.linspace(1, frames, clips).round().long()
    caps = torch.randint(1000, 20000, (clips, tokens + 1), generator=generator)
    caps[:, 0], caps[:, 1], caps[:, -1] = 101, 102, 102
    return {
        "vfeats": torch.randn(clips, frames, width, generator=generator),
        "vmasks": torch.arange(frames) < lengths[:, None],
        "caps": caps,
        "cmasks": torch.ones_like(caps, dtype=torch.bool),
        "label": torch.arange(clips),
    }
