"""Retrieval of spelled words: a recording of each word, compared with all words by the letters alone.

The similarity of N words and N recordings, [words, recordings], by one of

    mean     cosine of the mean of the windows' embeddings and the mean of the prompts of the word's letters
    max      mean over the word's letters of the similarity of the window that is nearest to the letter
    shares   cosine of the share of each letter in the recording, the mean over windows of a softmax over the
             letters, and in the word

None of them knows the order of the letters, so words of the same letters (anagrams) cannot be told apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.metrics.bootstrap import interval_of_mean
from mmpt.evaluators.metrics.ranking import KS
from mmpt.evaluators.metrics.sentences import rank_pair_matrix
from mmpt.evaluators.metrics.tied_ranks import TiedRanks, tied_rank_chance, tied_rank_metrics
from mmpt.evaluators.reports.tables import markdown_table, with_interval
from mmpt.utils.arrays import on_grid, unit_rows
from mmpt.utils.errors import UserError

Floats = NDArray[np.float64]
TEMPERATURES = (0.03, 0.07, 0.15)


@dataclass(frozen=True)
class Embedded:
    """The windows of a recording, or its letters.

    mean: of their unit vectors [H]. cosines: with the prompts of the letters [windows, letters].
    """

    mean: Floats
    cosines: Floats


def letter_counts(words: Sequence[str], letters: str) -> Floats:
    """How often each letter occurs in each word, [N, letters]. Raises UserError for other characters."""
    if other := sorted({character for word in words for character in word} - set(letters)):
        raise UserError(f"the words hold {', '.join(map(repr, other))}; expected letters of {letters}.")
    return np.array([[word.count(letter) for letter in letters] for word in words], dtype=np.float64)


def by_mean(recordings: Sequence[Embedded], counts: Floats, prompts: Floats) -> Floats:
    """See the module, `mean`. prompts: unit vectors of the letters [letters, H]."""
    return _cosines(counts @ prompts, np.stack([own.mean for own in recordings]))


def by_max(recordings: Sequence[Embedded], counts: Floats) -> Floats:
    """See the module, `max`."""
    nearest = np.stack([own.cosines.max(axis=0) for own in recordings])
    return on_grid(counts / counts.sum(axis=1, keepdims=True) @ nearest.T)


def by_shares(recordings: Sequence[Embedded], counts: Floats, temperature: float) -> Floats:
    """See the module, `shares`."""
    shares = []
    for own in recordings:
        weights = np.exp((own.cosines - own.cosines.max(axis=1, keepdims=True)) / temperature)
        shares.append((weights / weights.sum(axis=1, keepdims=True)).mean(axis=0))
    return _cosines(counts, np.stack(shares))


def same_letters(counts: Floats) -> Floats:
    """The similarities if every letter of the recordings were known: cosines of the counts."""
    return _cosines(counts, counts)


def _cosines(words: Floats, recordings: Floats) -> Floats:
    return on_grid(unit_rows(words.copy()) @ unit_rows(recordings.copy()).T)  # unit_rows works in place


def choose_temperature(recordings: Sequence[Embedded], counts: Floats) -> float:
    """The temperature of `shares` with the best mean of R@1 both ways, on words for validation."""

    def recall(temperature: float) -> float:
        ranks = rank_pair_matrix(by_shares(recordings, counts, temperature)).strict
        return sum(tied_rank_metrics(ranks[side])["R@1"] for side in ("t2v", "v2t"))

    return max(TEMPERATURES, key=recall)


def table(methods: Mapping[str, Sequence[Floats]]) -> str:
    """The results in Markdown: two rows for each method, then chance.

    methods: similarities [words, recordings] of each, one matrix for each trained model; the values are means
    over them. In brackets: 95 % intervals (bootstrap over the queries).
    """
    rows = []
    for name, matrices in methods.items():
        ranked = [rank_pair_matrix(matrix).strict for matrix in matrices]
        rows += [[name, side.upper(), *_cells([one[side] for one in ranked])] for side in ("t2v", "v2t")]
    chance = tied_rank_chance(len(next(iter(methods.values()))[0]), KS)
    rows.append(["chance", "", *(f"{chance[f'R@{k}']:.3f}" for k in KS), f"{chance['MedianR']:g}"])
    return markdown_table(["method", "", *(f"R@{k}" for k in KS), "MedR"], rows)


def _cells(ranks: Sequence[TiedRanks]) -> list[str]:
    cells = []
    for k in KS:
        found = np.stack([one.within(k) for one in ranks])
        cells.append(with_interval(found.mean(), *interval_of_mean(found)))
    return [*cells, f"{np.mean([np.median(one.middle) for one in ranks]):.3g}"]
