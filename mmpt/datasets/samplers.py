"""Which clips stand together in a batch: for a contrastive loss, that is which negatives there are."""

import logging
from collections.abc import Sequence

import numpy as np

from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)


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

    labels: the prompt of each clip, as a number. With clips_per_prompt=1, a batch is a collection of
    different gestures, drawn anew each time. The clips of each prompt are dealt out like cards, round and
    round, so batches differ in size by at most clips_per_prompt; where prompts have different numbers of
    clips, batches are smaller than batch_size. With `oversample`, clips of rarer prompts are repeated until
    every prompt has as many as the most frequent one (the ancestor's way to full batches).

    Raises UserError if batch_size is over what the prompts can fill.
    """
    by_label: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_label.setdefault(label, []).append(index)
    if batch_size > len(by_label) * clips_per_prompt:
        raise UserError(
            f"a batch of {batch_size} cannot hold {clips_per_prompt} clip(s) of each of {len(by_label)} "
            f"prompts without repeating a "
            f"prompt: set fairseq.dataset.batch_size to at most {len(by_label) * clips_per_prompt}, or "
            f"dataset.batch_sampler=random."
        )
    if clips_per_prompt > batch_size:
        raise UserError(
            f"dataset.clips_per_prompt is {clips_per_prompt}, over fairseq.dataset.batch_size={batch_size}."
        )
    most = max(len(clips) for clips in by_label.values())
    hands: list[list[list[int]]] = []  # of each prompt, what it puts into one batch
    for clips in by_label.values():
        deck = rng.permutation(clips).tolist()
        while oversample and len(deck) < most:
            deck += rng.permutation(clips).tolist()[: most - len(deck)]
        hands.append(
            [deck[start : start + clips_per_prompt] for start in range(0, len(deck), clips_per_prompt)]
        )
    longest, total = max(map(len, hands)), sum(map(len, hands))
    return _deal(hands, max(longest, -(-total // (batch_size // clips_per_prompt))), rng)


def _deal(hands: Sequence[list[list[int]]], count: int, rng: np.random.Generator) -> list[list[int]]:
    """The hands of each prompt, each in another one of `count` batches; no batch gets more than one hand more
    than another.

    Prompts and batches take their turns in random order. In a fixed order a prompt would be contrasted with
    the same few others in every epoch, and never with the rest.
    """
    batches: list[list[int]] = [[] for _ in range(count)]
    waiting = np.empty(0, dtype=np.int64)  # batches, in the order of their turns
    for prompt in rng.permutation(len(hands)):
        needed = len(hands[prompt])
        if len(waiting) < needed:
            another_round = rng.permutation(count)
            again = np.isin(another_round, waiting)  # last, so that none gets two hands of this prompt
            waiting = np.concatenate([waiting, another_round[~again], another_round[again]])
        for batch, hand in zip(waiting[:needed], hands[prompt]):
            batches[batch] += hand
        waiting = waiting[needed:]
    return batches
