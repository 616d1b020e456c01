"""Batches of neighbours for an epoch of training (see mmpt/datasets/neighbours.py)."""

import logging
import os
import time
from typing import Any

import numpy as np
import torch

from mmpt.config.dataset_options import BatchOptions
from mmpt.datasets.mmdataset import generator
from mmpt.datasets.neighbours import neighbour_batches, recording_vectors
from mmpt.tasks import Task
from mmpt.utils.distributed import world_size
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)


def check_one_process(options: BatchOptions) -> None:
    """Raises UserError for batches of neighbours in a training of several processes."""
    processes = max(world_size(), int(os.environ.get("WORLD_SIZE", 1)))
    if options.batch_sampler == "neighbours" and processes > 1:
        raise UserError(
            "dataset.batch_sampler: neighbours needs a training of one process, and this one has "
            f"{processes}: processes with slightly other embeddings would have other batches. Train with "
            "one, or with another batch_sampler."
        )


class EpochBatches:
    """Draws the batches of an epoch at its start, by the weights of that moment.

    They are part of a checkpoint inside the epoch: a resumed run finishes the epoch with them.
    """

    def __init__(self, task: Task, batch_size: int):
        self._task = task
        self._batch_size = batch_size
        self._state: dict[str, Any] | None = None

    def draw(self, model: torch.nn.Module, device: torch.device, epoch: int) -> None:
        """Draw the batches of an epoch, unless they were restored. model: its embeddings are compared."""
        check_one_process(self._task.config.dataset)
        if epoch < self._task.config.dataset.neighbours_from:
            self._state = None
            return
        if self._state is None or self._state["epoch"] != epoch:
            self._set(epoch, self._neighbours(model, device, epoch))
        self._task.dataset("train").fix_batches(epoch, self._batches())

    def state_dict(self) -> dict[str, Any] | None:
        """The batches of neighbours of the epoch, as tensors; None if it has none."""
        return self._state

    def restore(self, state: dict[str, Any] | None) -> None:
        """Continue an epoch with the batches of a checkpoint, if they were drawn for this data and size."""
        now = {"batch_size": self._batch_size, "clips": len(self._task.dataset("train"))}
        if state is not None and all(state[name] == value for name, value in now.items()):
            self._state = state

    def _set(self, epoch: int, batches: list[list[int]]) -> None:
        self._state = {
            "epoch": epoch,
            "batch_size": self._batch_size,
            "clips": len(self._task.dataset("train")),
            "sizes": torch.tensor([len(batch) for batch in batches]),
            "order": torch.tensor([index for batch in batches for index in batch]),
        }

    def _batches(self) -> list[list[int]]:
        assert self._state is not None
        return [part.tolist() for part in self._state["order"].split(self._state["sizes"].tolist())]

    def _neighbours(self, model: torch.nn.Module, device: torch.device, epoch: int) -> list[list[int]]:
        started = time.monotonic()
        task = self._task
        clips, dataset = task.dataset("train", training=False), task.dataset("train")
        assert [e.video_id for e in clips.examples] == [e.video_id for e in dataset.examples]
        predictor = task.predictor(model, device, self._batch_size, progress=False)
        videos = predictor.embed_videos(clips[i]["vfeats"] for i in range(len(clips)))
        texts = predictor.embed_texts([clips.text_processor(prompt) for prompt in clips.prompts])
        vectors = recording_vectors(
            videos, texts[np.array(clips.labels)], [str(example.path) for example in clips.examples]
        )
        labels = None if task.config.loss.label_aware else dataset.labels
        rng = generator(dataset.seed, epoch, len(dataset))
        size = self._batch_size if labels is None else min(self._batch_size, len(set(labels)))
        batches = neighbour_batches(vectors, labels, size, rng)
        inside = np.mean([_likeness(vectors[batch]) for batch in batches])
        log.info(
            "epoch %d: batches of neighbours (mean cosine %.2f in a batch, %.2f among all), drawn in %.1f s",
            *(epoch, inside, _likeness(vectors), time.monotonic() - started),
        )
        return batches


def _likeness(vectors: np.ndarray) -> float:
    """Mean cosine of two different ones of these unit vectors; 0 of one."""
    count = len(vectors)
    return float((np.square(vectors.sum(0)).sum() - count) / max(1, count * (count - 1)))
