"""Retrieval of spelled words: a recording of each word, compared with all words by the letters alone.

A method gives the similarity of N words and N recordings, of unit vectors of a recording's windows [W, H] and
of the letters' prompts [26, H]:

    mean     cosine of the mean of the windows and the mean of the prompts of the word's letters
    max      mean over the word's letters of the similarity of the window that is nearest to the letter
    shares   cosine of the share of each letter in the recording, the mean over windows of a softmax over the
             letters, and in the word

None of them knows the order of the letters, so words of the same letters (anagrams) cannot be told apart.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.metrics.bootstrap import interval_of_mean
from mmpt.evaluators.metrics.places import KS, Places, place_chance, place_metrics
from mmpt.evaluators.metrics.sentences import rank_pair_matrix
from mmpt.evaluators.metrics.similarity import on_grid
from mmpt.evaluators.reports.tables import markdown_table
from mmpt.utils.arrays import unit_rows
from mmpt.utils.errors import UserError

Floats = NDArray[np.float64]
Method = Callable[[Sequence[Floats], Floats, Floats], Floats]
"""(windows of each recording, letters, counts) -> similarities [words, recordings]."""

TEMPERATURES = (0.03, 0.07, 0.15)


def letter_counts(words: Sequence[str], letters: str) -> Floats:
    """How often each letter occurs in each word, [N, letters]. Raises UserError for other characters."""
    if other := sorted({character for word in words for character in word} - set(letters)):
        raise UserError(f"the words hold {', '.join(map(repr, other))}; expected letters of {letters}.")
    return np.array([[word.count(letter) for letter in letters] for word in words], dtype=np.float64)


def by_mean(windows: Sequence[Floats], letters: Floats, counts: Floats) -> Floats:
    """See the module, `mean`."""
    recordings = np.stack([own.mean(axis=0) for own in windows])
    return on_grid(unit_rows(counts @ letters) @ unit_rows(recordings).T)


def by_max(windows: Sequence[Floats], letters: Floats, counts: Floats) -> Floats:
    """See the module, `max`."""
    nearest = np.stack([(own @ letters.T).max(axis=0) for own in windows])
    return on_grid(counts / counts.sum(axis=1, keepdims=True) @ nearest.T)


def by_shares(
    windows: Sequence[Floats], letters: Floats, counts: Floats, temperature: float = 0.07
) -> Floats:
    """See the module, `shares`."""
    shares = []
    for own in windows:
        scores = own @ letters.T / temperature
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares.append((weights / weights.sum(axis=1, keepdims=True)).mean(axis=0))
    return on_grid(unit_rows(counts.copy()) @ unit_rows(np.stack(shares)).T)


def same_letters(counts: Floats) -> Floats:
    """The similarities if every letter of the recordings were known: cosines of the counts."""
    own = unit_rows(counts.copy())  # unit_rows works in place
    return on_grid(own @ own.T)


def choose_shares(windows: Sequence[Floats], letters: Floats, counts: Floats) -> Method:
    """`shares` with the temperature that has the best mean of R@1 both ways, on words for validation."""

    def recall(temperature: float) -> float:
        places = rank_pair_matrix(by_shares(windows, letters, counts, temperature)).strict
        return sum(place_metrics(places[side])["R@1"] for side in ("t2v", "v2t"))

    return partial(by_shares, temperature=max(TEMPERATURES, key=recall))


def table(methods: Mapping[str, Sequence[Floats]]) -> str:
    """The results in Markdown: two rows for each method, then chance.

    methods: similarities [words, recordings] of each, one matrix for each trained model; the values are means
    over them. In brackets: 95 % intervals (bootstrap over the queries).
    """
    rows = []
    for name, matrices in methods.items():
        ranked = [rank_pair_matrix(matrix).strict for matrix in matrices]
        rows += [[name, side.upper(), *_cells([one[side] for one in ranked])] for side in ("t2v", "v2t")]
    chance = place_chance(len(next(iter(methods.values()))[0]), KS)
    rows.append(["chance", "", *(f"{chance[f'R@{k}']:.3f}" for k in KS), f"{chance['MedianR']:g}"])
    return markdown_table(["method", "", *(f"R@{k}" for k in KS), "MedR"], rows)


def _cells(places: Sequence[Places]) -> list[str]:
    cells = []
    for k in KS:
        hit = partial(_within, k)
        found = np.stack([one.mean(hit) for one in places])
        low, high = interval_of_mean(found)
        cells.append(f"{found.mean():.3f} ({low:.3f}-{high:.3f})")
    return [*cells, f"{np.mean([np.median(one.middle) for one in places]):g}"]


def _within(k: int, ranks: Floats) -> Floats:
    return (ranks <= k).astype(np.float64)
