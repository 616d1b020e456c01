"""Kernel ridge regression from poses to SignWriting: the baseline of unseen-alphabet, without a network.

It predicts the parts of a clip's sign (and its letter) from the model's features, averaged over frames, and
ranks the prompts of the clip's sign language by the cosine of each kind of part.
"""

import dataclasses
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.prompt_sets import UNSEEN_ALPHABET, evaluated_prompts, prompt_sets
from mmpt.signwriting import Sign, split_signs
from mmpt.signwriting.glyphs import shapes
from mmpt.signwriting.signs import FILLS, FIRST_BASE, GROUPS, HANDS, LAST_BASE, ROTATIONS
from mmpt.utils.arrays import unit_rows

_GAMMA, _ALPHA = 0.5, 0.3
"""RBF width times the number of features, and ridge: usual values, not tuned."""


def ridge_correct(task: Any) -> NDArray[np.bool_]:
    """Which test clips of a task are classified correctly: bool [N].

    Clips without a sign teach by their letters, if letters are a part of the prompts. The cosines of letters
    and of signs are weighted as in the prompt ensemble of the task.
    """
    features, prompts = {}, {}
    options = dataclasses.replace(task.config.eval, protocol=UNSEEN_ALPHABET)
    for split in ("train", "test"):
        data = task.dataset(split, training=False)
        features[split] = mean_features(data)
        prompts[split] = [evaluated_prompts(example, options) for example in data.examples]
    scale = features["train"].std(0) + 1e-6
    train, test = ((part - features["train"].mean(0)) / scale for part in features.values())
    sets = prompt_sets(task.dataset("test", training=False).examples, options)
    words = sorted({_words(texts) for texts in prompts["train"]} - {""})
    scores = np.zeros((len(test), len(sets.prompts)))
    for describe in (partial(_one_hot, words), describe_signs):
        rows = [row for row, texts in enumerate(prompts["train"]) if describe(texts).any()]
        if not rows:
            continue
        target = np.stack([describe(prompts["train"][row]) for row in rows])
        candidates = np.stack([describe(texts) for texts in sets.prompts]) - target.mean(0)
        predicted = _fit(train[rows], target - target.mean(0), test)
        told = [[text for text in texts if describe((text,)).any()] for texts in sets.prompts]
        weights = np.array([sets.weights_of(texts).sum() for texts in told])
        scores += unit_rows(predicted) @ unit_rows(candidates).T * weights
    groups = np.array(sets.groups)
    labels = np.array(sets.labels)
    nearest = np.empty_like(labels)
    for name in set(groups.tolist()):
        clips = np.flatnonzero(groups == name)
        candidates = np.unique(labels[clips])
        nearest[clips] = candidates[scores[np.ix_(clips, candidates)].argmax(1)]
    return np.equal(nearest, labels)


def mean_features(dataset: Any) -> NDArray:
    """The features [N, D] of a dataset's clips (MMDataset), averaged over frames."""
    return np.stack([dataset[index]["vfeats"].mean(0) for index in range(len(dataset))])


def describe_signs(texts: tuple[str, ...]) -> NDArray[np.float64]:
    """Sums over the symbols of the signs in some prompts: base, group, shape, fill and rotation."""
    bases = LAST_BASE - FIRST_BASE + 1
    parts = [
        np.zeros(size)
        for size in (bases, len(GROUPS), shapes().shape[1], 2 * FILLS * ROTATIONS, 2 * FILLS, 2 * ROTATIONS)
    ]
    for sign in (part for text in texts for part in split_signs(text) if isinstance(part, Sign)):
        for symbol in sign.symbols:
            base = symbol.base - FIRST_BASE
            group = int(np.searchsorted(GROUPS, symbol.base, side="right")) - 1
            other = int(group >= HANDS)
            parts[0][base] += 1
            parts[1][group] += 1
            parts[2] += shapes()[base]
            parts[3][(other * FILLS + symbol.fill) * ROTATIONS + symbol.rotation] += 0.5
            parts[4][other * FILLS + symbol.fill] += 0.5
            parts[5][other * ROTATIONS + symbol.rotation] += 0.5
    return np.concatenate(parts)


def _words(texts: tuple[str, ...]) -> str:
    return " ".join(part for text in texts for part in split_signs(text) if isinstance(part, str))


def _one_hot(words: list[str], texts: tuple[str, ...]) -> NDArray[np.float64]:
    return np.array([_words(texts) == known for known in words], dtype=np.float64)


def _fit(train: NDArray, target: NDArray, test: NDArray) -> NDArray[np.float64]:
    from sklearn.kernel_ridge import KernelRidge

    model = KernelRidge(alpha=_ALPHA, kernel="rbf", gamma=_GAMMA / train.shape[1])
    return model.fit(train, target).predict(test)
