"""One-shot search of signs: the query is an example clip, the gallery one clip of each sign of a language.

The task of De Coster and Dambre (2023), "Querying a sign language dictionary with videos using dense vector
search", and of Vandendriessche et al. (2025), https://arxiv.org/abs/2502.20171: the language was not trained
on. They report MRR and R@k; see tied_ranks.py for these and for DCG.

    same-language    for each sign language, one clip of each sign, drawn at random, is the gallery; the other
                     clips of these signs are queries. Signs with one clip are in the gallery only. The draw
                     is repeated, and every pair of query and gallery counts the same.
    other-language   each sign language in turn is the gallery (one clip of each sign, drawn if there are
                     several); the clips of the other languages are queries if the gallery has a sign of the
                     same name. The result also depends on how similar the signs of the languages are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.metrics.similarity import similarity
from mmpt.evaluators.metrics.tied_ranks import TiedRanks, join_tied_ranks, rank_scores
from mmpt.utils.errors import UserError

SAME, OTHER = "same-language", "other-language"
QUERIES = ("auto", SAME, OTHER)
_BLOCK = 2048  # queries
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """How galleries and queries are chosen.

    queries: "same-language", "other-language", or "auto": the first if a sign has two clips in a language.
    draws: of the galleries. other_signer: no query by the signer of the gallery's clip of the same sign.
    """

    queries: str = "auto"
    draws: int = 10
    other_signer: bool = False
    seed: int = 0


class Trial(NamedTuple):
    """One gallery and its Q queries.

    language: its number. gallery: rows [C], by increasing sign. rows: of the queries [Q]. right: the place
    of each query's sign in `gallery` [Q].
    """

    language: int
    gallery: Ints
    rows: Ints
    right: Ints


@dataclass(frozen=True)
class Trials:
    """All galleries and their queries.

    queries: "same-language" or "other-language". draws: number of draws. languages: names, by number. sign:
    int64 [N], of each clip. same_signer: pairs of query and gallery that other_signer left out.
    """

    queries: str
    draws: int
    languages: list[str]
    sign: Ints
    trials: list[Trial]
    same_signer: int


@dataclass(frozen=True)
class OneShot:
    """Q pairs of a query and a gallery.

    ranks: of the right clip. clip, nearest: int64 [Q], rows of the query and of the first clip of its
    ranking. candidates: int64 [Q], size of the gallery. language: int64 [Q], the gallery's. sign: int64 [Q],
    numbers of the signs; in same-language, those of different languages differ.
    """

    trials: Trials
    ranks: TiedRanks
    clip: Ints
    nearest: Ints
    candidates: Ints
    language: Ints
    sign: Ints


def choose_trials(
    signs: Sequence[str],
    languages: Sequence[str],
    draw: Draw | None = None,
    signers: Sequence[str] = (),
) -> Trials:
    """Draw galleries and their queries; needs no embeddings.

    signs, languages: names [N]. signers: names [N], "" if not known; needed by draw.other_signer. Raises
    UserError if there is no query and if lengths differ. The draws depend on draw.seed and on the order of
    the clips.
    """
    draw = draw or Draw()
    if draw.queries not in QUERIES or draw.draws < 1:
        raise UserError(
            f"one-shot: expected queries to be one of {', '.join(QUERIES)} and at least one draw, got "
            f"{draw.queries!r} and {draw.draws}."
        )
    if len(signs) != len(languages) or not len(signs):
        raise UserError(
            f"one-shot: expected a sign and a sign language for each clip, got {len(signs)} signs and "
            f"{len(languages)} languages."
        )
    names, language = _numbers(languages)
    sign = _numbers(signs)[1]
    signer = _signers(signers, len(signs)) if draw.other_signer else None
    repeated = len(set(zip(language.tolist(), sign.tolist()))) < len(signs)
    queries = draw.queries if draw.queries != "auto" else SAME if repeated else OTHER
    draws = draw.draws if repeated else 1
    trials, left_out = [], 0
    for number, one in ((number, one) for number in range(draws) for one in range(len(names))):
        rng = np.random.default_rng([draw.seed, number, one])
        trial = _trial(sign, language, one, queries, rng)
        if signer is not None:
            kept = signer[trial.rows] != signer[trial.gallery[trial.right]]
            left_out += int((~kept).sum())
            trial = trial._replace(rows=trial.rows[kept], right=trial.right[kept])
        if len(trial.rows):
            trials.append(trial)
    if not trials:
        raise UserError(_why_none(queries, len(names), left_out))
    return Trials(queries, draws, names, sign, trials, left_out)


def rank_trials(vectors: ArrayLike, trials: Trials, kind: str = "cosine") -> OneShot:
    """Rank each gallery for its queries, in blocks.

    vectors: [N, H], of the clips that the trials were chosen from. kind: "cosine" or "dot". Raises UserError
    if they are not N, and on NaN.
    """
    clips = np.asarray(vectors)
    if clips.ndim != 2 or len(clips) != len(trials.sign):
        raise UserError(
            f"one-shot: expected embeddings [N, H] of {len(trials.sign)} clips, got shape {clips.shape}."
        )
    return rank_trials_by(lambda rows, gallery: similarity(clips[gallery], clips[rows], kind).T, trials)


def rank_trials_by(score: Callable[[Ints, Ints], NDArray], trials: Trials) -> OneShot:
    """Rank by any scores. score: rows of queries [Q] and of a gallery [C] -> similarities [Q, C]."""
    ranks, nearest = [], []
    for trial in trials.trials:
        for start in range(0, len(trial.rows), _BLOCK):
            part = slice(start, start + _BLOCK)
            scores = score(trial.rows[part], trial.gallery)
            nearest.append(trial.gallery[scores.argmax(axis=1)])
            ranks.append(rank_scores(scores, trial.right[part]))
    clip = np.concatenate([trial.rows for trial in trials.trials])
    each = [len(trial.rows) for trial in trials.trials]
    language = np.repeat([trial.language for trial in trials.trials], each)
    sign = trials.sign[clip]
    if trials.queries == SAME:
        sign = sign * len(trials.languages) + language
    candidates = np.repeat([len(trial.gallery) for trial in trials.trials], each)
    return OneShot(trials, join_tied_ranks(ranks), clip, np.concatenate(nearest), candidates, language, sign)


def _numbers(names: Sequence[str]) -> tuple[list[str], Ints]:
    """The distinct names, sorted, and the number of each."""
    distinct, numbers = np.unique(np.asarray(list(names), dtype=str), return_inverse=True)
    return distinct.tolist(), numbers.astype(np.int64)


def _signers(signers: Sequence[str], count: int) -> Ints:
    unknown = count - sum(map(bool, signers))
    if unknown or len(signers) != count:
        raise UserError(
            f"one-shot with other_signer: the signer of {unknown} of {count} clips is not known: fill in the "
            "column 'signer', or leave other_signer out."
        )
    return _numbers(signers)[1]


def _trial(sign: Ints, language: Ints, own: int, queries: str, rng: np.random.Generator) -> Trial:
    """A gallery of one clip of each sign of the language `own`, drawn at random, and its queries."""
    rows = rng.permutation(np.flatnonzero(language == own))
    gallery = rows[np.unique(sign[rows], return_index=True)[1]]
    possible = language == own if queries == SAME else language != own
    possible[gallery] = False
    possible &= np.isin(sign, sign[gallery])
    asked = np.flatnonzero(possible)
    return Trial(own, gallery, asked, np.searchsorted(sign[gallery], sign[asked]))


def _why_none(queries: str, languages: int, left_out: int) -> str:
    if left_out:
        return (
            f"one-shot: all {left_out} queries are by the signer of the gallery's clip: leave other_signer "
            "out, or add clips of other signers."
        )
    if queries == SAME:
        return (
            "one-shot: no sign has two clips in one sign language, so there is no query: add clips, or take "
            f"queries of another sign language ({OTHER})."
        )
    return (
        f"one-shot: no sign has the same name in two of {languages} sign languages, or two clips in one, so "
        "there is no query: add clips, or name the signs alike (prompts without the sign language)."
    )
