"""Example -> sample: frames from the video processor, ids from the text processor, cut by the aligner."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmpt.datasets.clips import ClipReader
from mmpt.datasets.samplers import prompt_batches, random_batches
from mmpt.processors.aligner import DSAligner
from mmpt.processors.example import Example
from mmpt.processors.text import TextProcessor
from mmpt.utils.errors import UserError
from mmpt.utils.seed import generator

log = logging.getLogger(__name__)


class MMDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """A split as samples; also says which samples make a batch.

    Randomness (augmentation, batches) comes only from (seed, epoch, index), so a run that is interrupted and
    resumed sees what an uninterrupted one sees, whatever the number of workers.

    sampler: unique_prompt, prompt_groups or random (see mmpt/datasets/samplers.py). prompt_weights: how often
    training takes an example's text and each of its other_texts, shares of 1.
    """

    def __init__(
        self,
        examples: list[Example],
        clips: ClipReader,
        text_processor: TextProcessor,
        aligner: DSAligner,
        *,
        training: bool = False,
        seed: int = 1,
        sampler: str = "unique_prompt",
        clips_per_prompt: int = 1,
        oversample: bool = False,
        prompt_weights: Sequence[float] = (1.0,),
    ):
        if not examples:
            raise UserError("the split is empty: there is nothing to train on or to evaluate.")
        self.examples = examples
        self.clips = clips
        self.text_processor = text_processor
        self.aligner = aligner
        self.training = training
        self.seed = seed
        self.sampler = sampler
        self.clips_per_prompt = clips_per_prompt
        self.oversample = oversample
        self._prompt_shares = np.cumsum(prompt_weights)
        self.epoch = 1
        self.prompts = list(dict.fromkeys(example.text for example in examples))
        number = {prompt: label for label, prompt in enumerate(self.prompts)}
        self.labels = [number[example.text] for example in examples]
        others = (text for example in examples for text in example.other_texts) if training else ()
        text_processor.check_distinct([*self.prompts, *others])

    def __len__(self) -> int:
        return len(self.examples)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that augmentation and batches are drawn for."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self.examples[index]
        rng = generator(self.seed, self.epoch, index) if self.training else None
        text = self._draw_prompt(example, index)
        caps, cmasks = self.text_processor(text)
        sample: dict[str, Any] = self.aligner(example.video_id, self.clips.features(index, rng), caps, cmasks)
        sample |= {
            "video_id": example.video_id,
            "text": text,
            "label": self.labels[index],
            "index": index,
        }
        return sample

    def _draw_prompt(self, example: Example, index: int) -> str:
        """In training one of the example's prompts, by weight; else the first."""
        if not self.training or not example.other_texts:
            return example.text
        # its own generator: with or without several prompts, clips are augmented the same way
        drawn = generator(self.seed, self.epoch, index).spawn(1)[0].random()
        number = int(np.searchsorted(self._prompt_shares, drawn, side="right"))
        return (example.text, *example.other_texts)[min(number, len(example.other_texts))]

    def _check_common(self, batch_size: int, processes: int) -> None:
        room = len(self.prompts) * self.clips_per_prompt
        if self.training and self.sampler != "random" and batch_size * processes > room:
            raise UserError(
                f"with loss.gather the batches of {processes} processes, {batch_size} clips each, are one: "
                f"it cannot hold {self.clips_per_prompt} clip(s) of each of {len(self.prompts)} prompts "
                f"without repeating one. Set fairseq.dataset.batch_size to at most "
                f"{max(1, room // processes)}, or loss.label_aware=true, with which clips of equal prompts "
                f"are pairs of each other."
            )

    def lengths(self) -> np.ndarray:
        """Frames of each clip as the model sees them (before augmentation, after cutting): int64 [N]."""
        return np.minimum(self.clips.lengths(), self.aligner.max_video_len)

    def n_cut(self) -> int:
        """How many clips are longer than the model's max_video_len."""
        return int((self.clips.lengths() > self.aligner.max_video_len).sum())

    def batches(self, batch_size: int, epoch: int, processes: int = 1) -> list[list[int]]:
        """The batches of an epoch, as indices; the same for the same (seed, epoch). Evaluation uses one
        fixed epoch.

        processes: how many processes contrast their batches of `batch_size` clips with each other's. They
        are then parts of common batches, for which the sampler's rule holds: number p, processes + p, ... are
        those of process p (a part is empty where a common batch has fewer clips than there are processes).

        Raises UserError if the prompts cannot fill a batch.
        """
        if processes > 1:
            self._check_common(batch_size, processes)
            common = self.batches(batch_size * processes, epoch)
            return [part.tolist() for batch in common for part in np.array_split(batch, processes)]
        rng = generator(self.seed, epoch if self.training else 0, len(self))
        if self.sampler == "random":
            return random_batches(len(self), batch_size, rng)
        if not self.training:  # a small split may have fewer prompts than a training batch has clips
            batch_size = min(batch_size, len(self.prompts) * self.clips_per_prompt)
        return prompt_batches(
            self.labels, batch_size, rng, self.clips_per_prompt, self.oversample and self.training
        )
