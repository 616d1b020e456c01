"""Prompt ensembles, and the protocol unseen-alphabet."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mmpt.config.schema import EvalConfig
from mmpt.evaluators.prompt_sets import PromptSets, embed_prompt_sets, prompt_sets, symbol_coverage
from mmpt.evaluators.reports.results import EmbeddedSplit, make_results
from mmpt.processors.example import Example
from mmpt.utils.errors import UserError

A, B, C = (f"M510x508S{base}20490x493" for base in ("1f7", "147", "16d"))
BOTH = EvalConfig(protocol="unseen-alphabet", prompt_ensemble=True)
ARROW = "M521x520S19220500x501S2a20c480x481"


def example(name, group, text, *others):
    return Example(name, text, Path(f"{name}.pose"), group=group, other_texts=others)


CLIPS = [
    example("1", "gsg", "letter A", A),
    example("2", "gsg", "letter B", B),
    example("3", "ase", "letter A", A),
    example("4", "ase", "letter B", C),
    example("5", "ase", "letter C", C),
]


def test_the_classes_of_each_protocol():
    first = prompt_sets(CLIPS, EvalConfig())
    assert first.prompts == [("letter A",), ("letter B",), ("letter C",)] and first.labels == [0, 1, 0, 1, 2]
    assert first.groups is None
    all_texts = prompt_sets(CLIPS, EvalConfig(prompt_ensemble=True))
    assert all_texts.labels == first.labels
    assert all_texts.prompts == [("letter A", A), ("letter B", B, C), ("letter C", C)]
    both = prompt_sets(CLIPS, BOTH)
    assert both.labels == [0, 1, 0, 2, 3] and both.groups == ["gsg", "gsg", "ase", "ase", "ase"]
    assert both.names[2] == f"letter B + {C}"


def test_letters_of_a_language_with_one_sign_are_one_prompt():
    signs = [example(e.video_id, e.group, e.other_texts[0]) for e in CLIPS]
    sets = prompt_sets(signs, dataclasses.replace(BOTH, prompt_ensemble=False))
    assert sets.prompts == [(A,), (B,), (C,)] and sets.labels == [0, 1, 0, 2, 2]


@pytest.mark.parametrize("ensemble", [False, True])
def test_unseen_alphabet_needs_signs(ensemble):
    clips = [*CLIPS, example("6", "ase", "letter D", "")]
    with pytest.raises(
        UserError, match=r"clip 6 has no sign.*\{signwriting\}" if ensemble else "clip 1 has no"
    ):
        prompt_sets(clips, dataclasses.replace(BOTH, prompt_ensemble=ensemble))


def test_an_ensemble_is_the_mean_of_unit_vectors():
    vectors = {"a": [3.0, 4.0], "b": [0.0, 2.0], "c": [5.0, 0.0]}
    asked = []

    def embed(texts):
        asked.extend(texts)
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    sets = PromptSets([("a",), ("a", "b"), ("c", "b")], [0, 1, 2])
    found = embed_prompt_sets(sets, embed)
    assert asked == ["a", "b", "c"]  # each prompt once
    assert np.allclose(found, [[3, 4], [0.3, 0.9], [0.5, 0.5]])  # a single one is as it is
    sets = dataclasses.replace(sets, weights={"a": 0.2, "c": 0.2, "b": 0.8})
    found = embed_prompt_sets(sets, embed)
    assert found.dtype == np.float32 and np.allclose(found, [[3, 4], [0.12, 0.96], [0.2, 0.8]])


def test_the_prompts_of_a_template_have_its_weight():
    weighted = dataclasses.replace(BOTH, prompt_ensemble_weights=[1, 3])
    sets = prompt_sets(CLIPS, weighted)
    assert sets.weights_of(("letter A", A, C)).tolist() == [0.25, 0.75, 0.75]
    assert sets.prompts == prompt_sets(CLIPS, BOTH).prompts
    wrong = {"a weight >= 0 for each of the 2": [1.0], "weight of 0": [0.0, 1.0]}
    for message, weights in wrong.items():
        with pytest.raises(UserError, match=f"eval.prompt_ensemble_weights.*{message}"):
            prompt_sets(CLIPS, dataclasses.replace(weighted, prompt_ensemble_weights=weights))
    with pytest.raises(UserError, match=r"no effect without eval\.prompt_ensemble=true"):
        prompt_sets(CLIPS, dataclasses.replace(weighted, prompt_ensemble=False))


def random_split(rng, clips=60, prompts=12):
    groups = [f"g{n}" for n in rng.integers(0, 3, clips)]
    labels = np.concatenate([np.arange(prompts), rng.integers(0, prompts, clips - prompts)])
    texts, videos = (rng.normal(size=(n, 4)).round(1).astype(np.float32) for n in (prompts, clips))
    names = [f"p{n}" for n in range(prompts)], [f"v{n}" for n in range(clips)]
    return EmbeddedSplit(texts, videos, labels, *names, groups)


@pytest.mark.parametrize("seed", range(5))
def test_a_clip_is_ranked_among_the_prompts_of_its_group(seed):
    split = random_split(np.random.default_rng(seed))
    results = make_results(split, "cosine", resamples=0)
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (split.texts, split.videos)]
    scores = units[0].astype(float) @ units[1].T.astype(float)
    ranks, nearest, chances, hits, relevant, first = [], [], [], [], [], []
    for clip, (label, group) in enumerate(zip(split.labels, split.groups)):
        allowed = sorted({own for own, other in zip(split.labels, split.groups) if other == group})
        order = sorted(allowed, key=lambda prompt: (-round(scores[prompt, clip], 6), prompt))
        ranks.append(order.index(label) + 1)
        nearest.append(order[0])
        chances.append(1 / len(allowed))
    for group in dict.fromkeys(split.groups):
        clips = [n for n, name in enumerate(split.groups) if name == group]
        for prompt in sorted({split.labels[n] for n in clips}):
            order = sorted(clips, key=lambda n: (-round(scores[prompt, n], 6), n))
            right = [split.labels[n] == prompt for n in order]
            hits.append(right[0])
            relevant.append(sum(right) / len(right))
            first.append(right.index(True) + 1)
    assert results["v2t"]["R@1"] == pytest.approx(np.mean(np.array(ranks) == 1))
    assert results["v2t"]["MeanR"] == pytest.approx(np.mean(ranks))
    assert results["t2v"]["P@1"] == pytest.approx(np.mean(hits))
    assert results["t2v"]["MeanR"] == pytest.approx(np.mean(first))
    assert results["chance"]["v2t R@1"] == pytest.approx(np.mean(chances))
    assert results["chance"]["t2v P@1"] == pytest.approx(np.mean(relevant))
    assert split.nearest("cosine").tolist() == nearest


def test_one_group_is_the_plain_ranking():
    split = random_split(np.random.default_rng(9))
    alone = EmbeddedSplit(split.texts, split.videos, split.labels, split.prompts, split.video_ids, ["g"] * 60)
    plain = EmbeddedSplit(split.texts, split.videos, split.labels, split.prompts, split.video_ids)
    assert make_results(alone, resamples=10) == make_results(plain, resamples=10)


def test_symbols_that_training_lacks_are_counted():
    train = [
        example("t", "psr", "letter A", A.replace("1f720", "1f710"), ARROW),
        example("u", "eso", "letter", ""),
    ]
    counts, unseen = symbol_coverage(train, prompt_sets(CLIPS, BOTH))
    assert counts == {"symbols": 3, "not_in_training": 3, "bases": 3, "bases_not_in_training": 2}
    assert unseen == [False, True, False, True, True]
