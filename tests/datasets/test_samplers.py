"""Batches: different prompts, every clip once, the same for the same seed."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.datasets import samplers
from mmpt.datasets.samplers import BatchSampler, prompt_batches, random_batches
from mmpt.utils.errors import UserError


def rng(seed=0):
    return np.random.default_rng(seed)


@settings(max_examples=200, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    size=st.integers(1, 60),
    per_prompt=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_batches_hold_every_clip_once_and_limit_each_prompt(counts, size, per_prompt, seed):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    size = min(size, len(counts) * per_prompt)
    per_prompt = min(per_prompt, size)
    batches = prompt_batches(labels, size, rng(seed), per_prompt)
    assert sorted(index for batch in batches for index in batch) == list(range(len(labels)))
    for batch in batches:
        assert 0 < len(batch) <= size
        assert max(Counter(labels[index] for index in batch).values()) <= per_prompt
    if per_prompt == 1:
        assert max(map(len, batches)) - min(map(len, batches)) <= 1
        assert len(batches) == max(max(counts), -(-len(labels) // size))


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 5), min_size=8, max_size=20),
    size=st.integers(1, 3),
    processes=st.integers(2, 4),
    epoch=st.integers(1, 3),
)
def test_common_batches_are_split_over_the_processes(counts, size, processes, epoch):
    """The parts of the processes are one batch of a single process."""
    size = min(size, len(counts) // processes)
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    sampler = BatchSampler()
    parts = sampler.common_batches(labels, size, processes, rng(epoch), training=True)
    assert len(parts) % processes == 0 and max(map(len, parts)) <= size
    for number, common in enumerate(sampler.batches(labels, size * processes, rng(epoch), training=True)):
        dealt = parts[number * processes : (number + 1) * processes]
        assert [clip for part in dealt for clip in part] == common
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    assert len(parts) == processes * (number + 1)
    with pytest.raises(UserError, match=f"batch_size to at most {len(counts) // processes}"):
        sampler.common_batches(labels, len(counts) // processes + 1, processes, rng(epoch), training=True)


def test_oversampling_fills_every_batch_with_all_gestures():
    labels = [0] * 5 + [1] * 2 + [2]
    batches = prompt_batches(labels, 3, rng(), oversample=True)
    assert len(batches) == 5
    assert all(sorted(labels[index] for index in batch) == [0, 1, 2] for batch in batches)
    assert {index for batch in batches for index in batch} == set(range(8))


@pytest.mark.parametrize("counts", [[5] * 30, [1 + label % 9 for label in range(30)]])
def test_over_the_epochs_every_prompt_meets_all_others(counts):
    """A batch holds few of many prompts: those that never meet are never told apart."""
    labels = np.repeat(np.arange(len(counts)), counts)
    met = np.zeros((len(counts), len(counts)))
    for epoch in range(150):
        for batch in prompt_batches(labels.tolist(), 10, rng(epoch)):
            met[np.ix_(labels[batch], labels[batch])] += 1
    assert met.min() > 0
    if len(set(counts)) == 1:  # 150 epochs x 5 clips, each with 9 of 29 others
        others = met[~np.eye(len(counts), dtype=bool)]
        assert others.min() > 0.7 * 750 * 9 / 29 and others.max() < 1.3 * 750 * 9 / 29


def test_batch_size_35_is_kept():
    labels = [label for label in range(35) for _ in range(16)]
    assert {len(batch) for batch in prompt_batches(labels, 35, rng())} == {35}


def test_batches_are_deterministic():
    labels = [i % 7 for i in range(50)]
    assert prompt_batches(labels, 6, rng(1)) == prompt_batches(labels, 6, rng(1))
    assert prompt_batches(labels, 6, rng(1)) != prompt_batches(labels, 6, rng(2))
    assert random_batches(10, 4, rng(1)) == random_batches(10, 4, rng(1))
    assert sorted(index for batch in random_batches(10, 4, rng(1)) for index in batch) == list(range(10))


def test_a_batch_size_over_the_prompts_is_refused():
    with pytest.raises(UserError, match="at most 3"):
        prompt_batches([0, 1, 2, 2], 4, rng())


def test_the_random_sampler_ignores_the_prompts():
    sampler = BatchSampler(kind="random")
    for training in (True, False):
        batches = sampler.batches([0] * 10, 4, rng(3), training)
        assert batches == random_batches(10, 4, rng(3)) and [len(batch) for batch in batches] == [4, 4, 2]
    parts = sampler.common_batches([0] * 10, 2, 2, rng(3), training=True)
    assert [clip for part in parts for clip in part] == [clip for batch in batches for clip in batch]


def test_batches_of_validation_are_smaller_where_prompts_are_few():
    """Training refuses; a small validation split is seen in batches of as many clips as the limit allows."""
    labels = [0, 0, 1, 1, 2, 2]
    for per_prompt, sizes in ((1, [3, 3]), (2, [6])):
        sampler = BatchSampler(clips_per_prompt=per_prompt)
        assert [len(batch) for batch in sampler.batches(labels, 50, rng(), training=False)] == sizes
        with pytest.raises(UserError, match=f"at most {3 * per_prompt}"):
            sampler.batches(labels, 50, rng(), training=True)
    assert [len(batch) for batch in BatchSampler().batches(labels, 2, rng(), training=False)] == [2, 2, 2]


def test_only_training_oversamples():
    labels = [0] * 5 + [1] * 2 + [2]
    sampler = BatchSampler(oversample=True)
    assert sum(map(len, sampler.batches(labels, 3, rng(), training=True))) == 15
    assert sum(map(len, sampler.batches(labels, 3, rng(), training=False))) == 8
    assert sum(map(len, BatchSampler().batches(labels, 3, rng(), training=True))) == 8
    for training, clips in ((True, 15), (False, 8)):
        assert sum(map(len, sampler.common_batches(labels, 1, 3, rng(), training))) == clips


def test_clips_of_one_prompt_stay_in_order_in_large_batches() -> None:
    """A sort that is not stable gives other batches on other processors."""
    labels = np.random.default_rng(0).integers(0, 3, 500)
    found = samplers._clips_of_labels(labels)
    expected = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]
    assert [clips.tolist() for clips in found] == [clips.tolist() for clips in expected]
    orders = list(np.arange(800).reshape(200, 4))
    batches = samplers._distribute(orders, 2, 4, np.random.default_rng(0))
    assert sorted(clip for batch in batches for clip in batch) == list(range(800))
    for batch in batches:  # both clips of a group are neighbours
        assert [clip + 1 for clip in batch[::2]] == batch[1::2]
