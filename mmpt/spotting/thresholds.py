"""Thresholds that were chosen on validation recordings, in a file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import read_json, write_json
from mmpt.utils.outputs import differing

FORMAT = "signclip-thresholds"


@dataclass(frozen=True)
class Thresholds:
    """The least score of a detection.

    common: of all texts that `texts` has no own one of. settings: of the search that they were chosen for
    (model, windows, ...), which scores depend on. chosen: how they were chosen.
    """

    common: float
    texts: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)

    def of(self, names: Sequence[str]) -> NDArray[np.float32]:
        """The threshold of each text, float32 [n]."""
        return np.array([self.texts.get(name, self.common) for name in names], np.float32)

    def write(self, path: Path) -> None:
        """Write a JSON file; infinity, which no score reaches, becomes null."""
        texts = {text: finite_or_none(value) for text, value in self.texts.items()}
        tree = {"format": FORMAT, "common": finite_or_none(self.common), "texts": texts}
        write_json(path, {**tree, "settings": self.settings, "chosen": self.chosen})

    @classmethod
    def read(cls, path: str | Path) -> "Thresholds":
        """Read such a file. Raises UserError."""
        try:
            tree = read_json(path)
        except FileNotFoundError:
            raise MissingDataError(f"there is no file {path}: --choose-threshold writes it.") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not readable as JSON ({error}).") from None
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            raise UserError(f"{path}: expected thresholds that `signclip spot --choose-threshold` wrote.")
        texts, settings, chosen = (tree.get(key) for key in ("texts", "settings", "chosen"))
        if not (isinstance(texts, dict) and isinstance(settings, dict) and isinstance(chosen, dict)):
            raise UserError(f"{path}: 'texts', 'settings' and 'chosen' must be objects.")
        for value in (tree.get("common"), *texts.values()):
            if value is not None and not _is_score(value):
                raise UserError(
                    f"{path}: a threshold must be a finite number or null, got {str(value)[:40]!r}."
                )
        if chosen and not (isinstance(chosen.get("by"), str) and _is_score(chosen.get("F1"))):
            raise UserError(f"{path}: 'chosen' must have a text 'by' and a number 'F1'.")
        limits = {text: _number(value) for text, value in texts.items()}
        return cls(_number(tree.get("common")), limits, settings, chosen)

    def check(self, settings: dict[str, Any], where: str | Path) -> None:
        """Raises UserError if they were chosen for another model or other settings."""
        if what := differing(self.settings, settings):
            raise UserError(
                f"{where}: these thresholds were chosen with other settings ({what}): give the same, or "
                "choose thresholds for these with --choose-threshold."
            )


def _is_score(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST


_LARGEST = float(np.finfo(np.float32).max)


def finite_or_none(value: float) -> float | None:
    """A threshold as JSON: infinity, which no score reaches, is null."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.inf if value is None else float(value)
