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
    different gestures. The clips of each prompt are dealt out like cards, round and round, so batches differ
    in size by at most clips_per_prompt; where prompts have different numbers of clips, batches are smaller
    than batch_size. With `oversample`, clips of rarer prompts are repeated until every prompt has as many as
    the most frequent one (the ancestor's way to full batches).

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
    hands: list[list[int]] = []  # what one prompt puts into one batch
    shortest_deck = 0
    for clips in by_label.values():
        deck = rng.permutation(clips).tolist()
        while oversample and len(deck) < most:
            deck += rng.permutation(clips).tolist()[: most - len(deck)]
        cut = [deck[start : start + clips_per_prompt] for start in range(0, len(deck), clips_per_prompt)]
        shortest_deck = max(shortest_deck, len(cut))
        hands.extend(cut)
    count = max(shortest_deck, -(-len(hands) // (batch_size // clips_per_prompt)))
    batches: list[list[int]] = [[] for _ in range(count)]
    for turn, hand in enumerate(hands):
        batches[turn % count] += hand
    order = rng.permutation(count)
    return [batches[position] for position in order if batches[position]]
