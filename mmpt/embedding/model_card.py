"""The model card: README.md of a model folder, with its facts in the YAML front matter.

A fact that is not known is listed as "not recorded"; nothing is guessed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub import ModelCard as HubCard

from mmpt.evaluators.reports.tables import Columns, columns_of, markdown_table, number
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_text

NOT_RECORDED = "not recorded"
_KEY = "signclip"
"""The part of the front matter that holds the facts; the rest is for the hub."""
_USAGE = """A SignCLIP model: it embeds clips of sign language and prompts in one space.

```python
import mmpt

model = mmpt.from_pretrained("FOLDER or org/name")
scores = model.score(["clip.pose"], ["a prompt"])
```
"""
_TITLES = {"t2v": "T2V", "v2t": "V2T", "v2v": "V2V"}


@dataclass
class ModelCard:
    """What is known about a model.

    model: fingerprint, mmpt version and sizes. training: data, seed and versions, see card_facts.py.
    evaluations: of this model, each with split, protocol, numbers, chance and intervals. licence: an SPDX id
    such as "cc-by-4.0". text: the README.md that it was read from. A fact that is None or missing is unknown.
    """

    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    intended_use: str | None = None
    licence: str | None = None
    text: str | None = None

    @classmethod
    def read(cls, path: Path) -> "ModelCard":
        """Read a README.md. Raises UserError if its front matter is invalid."""
        text = read_text(path)
        try:
            data = HubCard(text, ignore_metadata_errors=True).data.to_dict()
        except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: its YAML front matter cannot be read: {reason}.") from error
        facts = data.get(_KEY)
        facts = facts if isinstance(facts, dict) else {}
        parts = {name: facts[name] for name, kind in _KINDS.items() if isinstance(facts.get(name), kind)}
        licence = data.get("license")
        return cls(**parts, licence=licence if isinstance(licence, str) else None, text=text)

    def render(self, name: str) -> str:
        """The text of README.md. name: of the model."""
        facts = {part: getattr(self, part) for part in _KINDS}
        data = ModelCardData(
            license=self.licence,
            library_name="mmpt",
            tags=["sign-language", "signclip", "retrieval"],
            model_name=name if self.evaluations else None,
            eval_results=list(self._eval_results()) or None,
            ignore_metadata_errors=True,
            **{_KEY: json.loads(json.dumps(facts))},
        )
        return f"---\n{data.to_yaml()}\n---\n\n{self._body(name)}"

    def _eval_results(self) -> Iterator[EvalResult]:
        """The numbers in the form that the hub shows."""
        corpus = str(self.training.get("corpus") or NOT_RECORDED)
        for found in self.evaluations:
            for side, metric, _ in _columns(found):
                value = found["metrics"].get(side, {}).get(metric)
                if value is not None:
                    yield EvalResult(
                        task_type="retrieval",
                        dataset_type=corpus,
                        dataset_name=corpus,
                        dataset_split=found.get("split"),
                        metric_type=f"{side}_{metric}",
                        metric_name=f"{_TITLES[side]} {metric}",
                        metric_value=value,
                    )

    def _body(self, name: str) -> str:
        training = self.training
        parts = [
            f"# {plain(name)}\n\n{_USAGE}",
            "## Model\n\n" + _listing(self.model, ("fingerprint", "mmpt_version")),
            "## Training\n\n"
            + _listing(training, ("corpus", "splits", "data", "seed", "text_model", "mmpt_version")),
            "## Evaluation\n\n" + ("\n".join(map(_evaluation, self.evaluations)) or f"- {NOT_RECORDED}\n"),
            f"## Intended use\n\n{plain(self.intended_use or NOT_RECORDED)}\n",
            "## Limits\n\n"
            + ("".join(f"- {plain(line)}\n" for line in self.limits) or f"- {NOT_RECORDED}\n"),
            f"## Licence\n\n{plain(self.licence or NOT_RECORDED)}\n",
        ]
        return "\n".join(parts)


_KINDS: dict[str, Any] = {
    "model": dict,
    "training": dict,
    "evaluations": list,
    "limits": list,
    "intended_use": str,
}


def plain(value: Any) -> str:
    """A value as one line of Markdown, with all markup escaped."""
    if isinstance(value, dict):
        return "; ".join(f"{plain(key)}: {plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return "".join(f"\\{c}" if c in r"\`*_[]<>|#!" else c for c in text).replace("&", "&amp;")


def _listing(facts: Mapping[str, Any], expected: Sequence[str]) -> str:
    """All facts, and the expected ones that are missing."""
    lines = []
    for key in dict.fromkeys([*expected, *facts]):
        value = facts.get(key)
        known = value is not None and value not in ({}, [])
        lines.append(f"- {plain(key.replace('_', ' '))}: {plain(value) if known else NOT_RECORDED}\n")
    return "".join(lines)


def _columns(found: Mapping[str, Any]) -> Columns:
    """The columns of an evaluation; `protocol` is its name and the similarity."""
    return columns_of({"protocol": str(found.get("protocol")).split(",")[0]})


def _evaluation(found: Mapping[str, Any]) -> str:
    """One evaluation as a table: value, interval and chance of each metric."""
    intervals, chance = found.get("intervals") or {}, found.get("chance") or {}
    rows = []
    for side, metric, _ in _columns(found):
        value = found["metrics"].get(side, {}).get(metric)
        bounds = intervals.get(side, {}).get(metric)
        between = " to ".join(number(metric, bound) for bound in bounds) if bounds else NOT_RECORDED
        lucky = chance.get(f"{side} {metric}")
        cells = [number(metric, value), between, number(metric, lucky)]
        rows.append([f"{_TITLES[side]} {metric}", *cells])
    level = found.get("interval_level")
    header = ["metric", "value", f"{level:.0%} interval" if level else "interval", "chance"]
    expected = ("split", "protocol", "clips", "prompts", "seed", "data", "mmpt_version")
    facts = {key: found.get(key) for key in (*expected, *(("warnings",) if found.get("warnings") else ()))}
    return f"{_listing(facts, expected)}\n{markdown_table(header, rows)}\n"
