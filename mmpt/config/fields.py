"""How a field of the schema says what it means and what it allows."""

from collections.abc import Sequence
from dataclasses import MISSING, field
from typing import Any


def opt(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[Any] | None = None,
    aliases: Sequence[str] = (),
    served: bool = True,
) -> Any:
    """A dataclass field with its meaning, its bounds (inclusive) and other names published YAMLs use for it.

    served: false for a published option that nothing here acts on (see published.py).
    """
    metadata = {
        "doc": doc,
        "min": minimum,
        "max": maximum,
        "choices": choices,
        "aliases": tuple(aliases),
        "served": served,
    }
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def required(doc: str, **bounds: Any) -> Any:
    """A field that every config must give."""
    made = opt(MISSING, doc, **bounds)
    return made


def section(cls: type, doc: str) -> Any:
    """A nested dataclass, made with its defaults when YAML leaves it out."""
    return field(default_factory=cls, metadata={"doc": doc, "aliases": ()})
