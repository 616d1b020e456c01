"""What the protocols of a table take and return."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Split:
    """Embeddings of a split's clips, float32 [N, H], with the id, class, signer and language of each.

    signers, languages: "" where they are not known.
    """

    name: str
    vectors: NDArray[np.float32]
    ids: list[str]
    classes: list[str]
    signers: list[str]
    languages: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Options:
    """Options of the protocols.

    k: number of neighbours of knn. draws: random draws of the clips of few-shot prototypes and of one-shot
    galleries. c: C of the linear probe; None chooses it on the validation split. resamples: of the bootstrap;
    0 for no intervals. queries, other_signer: of one-shot (see metrics/one_shot.py). train_languages: of the
    training clips, about which one-shot warns.
    """

    k: int = 5
    draws: int = 10
    c: float | None = None
    resamples: int = 1000
    seed: int = 0
    queries: str = "auto"
    other_signer: bool = False
    train_languages: Sequence[str] = ()


@dataclass
class Outcome:
    """One row of the results of a protocol.

    setting: v2t, t2v, "k=5", ... coverage: share of the clips whose class is among the candidates. truth,
    predicted: class numbers [N], or None where prompts are the queries.
    """

    protocol: str
    setting: str
    n: int
    classes: list[str]
    coverage: float
    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    chance: dict[str, float]
    notes: list[str] = field(default_factory=list)
    truth: NDArray[np.int64] | None = None
    predicted: NDArray[np.int64] | None = None

    def as_json(self) -> dict[str, Any]:
        """The numbers as saved in protocols.json, without the predictions."""
        return {
            "protocol": self.protocol,
            "setting": self.setting,
            "n": self.n,
            "n_classes": len(self.classes),
            "coverage": self.coverage,
            "metrics": self.metrics,
            "intervals": self.intervals,
            "chance": self.chance,
            "notes": self.notes,
        }
