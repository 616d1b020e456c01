"""Draw batches. The clips of a batch are negatives of each other in a contrastive loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmpt.utils.errors import UserError


@dataclass(frozen=True)
class BatchSampler:
    """Draws the batches of an epoch (the options: see BatchOptions).

    kind: unique_prompt and prompt_groups limit the clips of one prompt in a batch to clips_per_prompt; random
    does not. oversample: in training, repeat clips of rare prompts so that every batch is full.
    """

    kind: str = "unique_prompt"
    clips_per_prompt: int = 1
    oversample: bool = False

    def batches(
        self, labels: Sequence[int], batch_size: int, rng: np.random.Generator, training: bool
    ) -> list[list[int]]:
        """Batches of indices into `labels` (the prompt of each clip, as a number from 0).

        Raises UserError if, in training, the prompts cannot fill a batch.
        """
        if self.kind == "random":
            return random_batches(len(labels), batch_size, rng)
        if not training:  # a small split may have fewer prompts than a training batch has clips
            batch_size = min(batch_size, self._room(labels))
        return prompt_batches(labels, batch_size, rng, self.clips_per_prompt, self.oversample and training)

    def common_batches(
        self,
        labels: Sequence[int],
        batch_size: int,
        processes: int,
        rng: np.random.Generator,
        training: bool,
    ) -> list[list[int]]:
        """Batches for processes whose losses contrast all their clips, `batch_size` clips per process.

        The limit per prompt holds for the common batch of all processes. Batch number p, processes + p, ...
        belong to process p; they are empty where a common batch has fewer clips than there are processes.
        Raises UserError if, in training, the prompts cannot fill a common batch.
        """
        room = self._room(labels)
        if training and self.kind != "random" and batch_size * processes > room:
            raise UserError(
                f"with loss.gather, {processes} processes share a batch of {batch_size * processes} clips; "
                f"{len(set(labels))} prompts fill only {room} at {self.clips_per_prompt} clip(s) per prompt: "
                f"set fairseq.dataset.batch_size to at most {max(1, room // processes)}, or "
                "loss.label_aware=true, which allows several clips of one prompt."
            )
        common = self.batches(labels, batch_size * processes, rng, training)
        return [part.tolist() for batch in common for part in np.array_split(batch, processes)]

    def _room(self, labels: Sequence[int]) -> int:
        """The largest batch that keeps the limit per prompt."""
        return len(set(labels)) * self.clips_per_prompt


def random_batches(count: int, batch_size: int, rng: np.random.Generator) -> list[list[int]]:
    """Clips in random order, batch_size at a time; the last batch may be smaller."""
    order = rng.permutation(count)
    return [order[start : start + batch_size].tolist() for start in range(0, count, batch_size)]


def prompt_batches(
    labels: Sequence[int],
    batch_size: int,
    rng: np.random.Generator,
    clips_per_prompt: int = 1,
    oversample: bool = False,
) -> list[list[int]]:
    """Batches in which no prompt has more than clips_per_prompt clips; every clip is seen exactly once.

    labels: the prompt of each clip, as a number. oversample: repeat clips of rarer prompts until every prompt
    has as many as the most frequent one, as SignCLIP does.

    The clips of a prompt are divided into groups of clips_per_prompt, drawn again for every epoch, which are
    in different batches. The last group of a prompt may be smaller. The numbers of groups of two batches
    differ by at most one. If prompts have different numbers of clips, batches are smaller than batch_size.

    Raises UserError if batch_size is larger than the prompts can fill.
    """
    by_label = _clips_of_labels(labels)
    if batch_size > len(by_label) * clips_per_prompt:
        raise UserError(
            f"{len(by_label)} prompts cannot fill a batch of {batch_size} at {clips_per_prompt} clip(s) per "
            f"prompt: set fairseq.dataset.batch_size to at most {len(by_label) * clips_per_prompt}, or "
            f"dataset.batch_sampler=random."
        )
    if clips_per_prompt > batch_size:
        raise UserError(
            f"dataset.clips_per_prompt is {clips_per_prompt}, but a batch has {batch_size} clips: lower it, "
            "or raise fairseq.dataset.batch_size."
        )
    most = max(map(len, by_label))
    orders = []  # the clips of each prompt; clips_per_prompt at a time stay in one batch
    for clips in by_label:
        order = rng.permutation(clips)
        while oversample and len(order) < most:
            order = np.concatenate([order, rng.permutation(clips)[: most - len(order)]])
        orders.append(order)
    groups = [-(-len(order) // clips_per_prompt) for order in orders]
    count = max(*groups, -(-sum(groups) // (batch_size // clips_per_prompt)))
    return _distribute(orders, clips_per_prompt, count, rng)


def _clips_of_labels(labels: Sequence[int]) -> list[np.ndarray]:
    """The clips of each label, ascending, the labels in the order in which they first occur."""
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    clips = np.split(np.argsort(label, kind="stable"), np.cumsum(np.bincount(label))[:-1])
    return [clips[number] for number in np.argsort(first)]


def _distribute(
    orders: Sequence[np.ndarray], clips_per_prompt: int, count: int, rng: np.random.Generator
) -> list[list[int]]:
    """Put each prompt's groups of clips into different ones of `count` batches of about the same size.

    Their numbers of groups differ by at most one. Prompts and batches take turns in random order. In a fixed
    order a prompt would be contrasted with the same few prompts in every epoch.
    """
    waiting = np.empty(0, dtype=np.int64)  # batches, in the order of their turns
    batch_of: list[np.ndarray] = []  # of each clip of each prompt
    prompts = rng.permutation(len(orders))
    for prompt in prompts:
        needed = -(-len(orders[prompt]) // clips_per_prompt)
        if len(waiting) < needed:
            another_round = rng.permutation(count)
            again = np.isin(another_round, waiting)  # last, so that none gets two groups of this prompt
            waiting = np.concatenate([waiting, another_round[~again], another_round[again]])
        batch_of.append(np.repeat(waiting[:needed], clips_per_prompt)[: len(orders[prompt])])
        waiting = waiting[needed:]
    clips, batch = np.concatenate([orders[prompt] for prompt in prompts]), np.concatenate(batch_of)
    ends = np.cumsum(np.bincount(batch))[:-1]  # no batch is empty
    return [part.tolist() for part in np.split(clips[np.argsort(batch, kind="stable")], ends)]
