"""Field constructors of the schema: default, meaning and allowed values of each key."""

from collections.abc import Sequence
from dataclasses import MISSING, Field, field
from typing import Any

LARGE = 1 << 20
"""Upper limit of sizes: a hostile file with larger ones would exhaust the memory."""


def opt(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[Any] | None = None,
    aliases: Sequence[str] = (),
    supported: bool = True,
    saved_name: str | None = None,
) -> Any:
    """A dataclass field with its meaning, its bounds (inclusive) and the aliases published YAMLs use for it.

    supported: false for a published option that mmpt does not implement (see published.py). saved_name: the
    former name of a renamed option. Model folders and digests keep it, so that the same settings give the
    same bytes as before and older versions of mmpt read new folders.
    """
    metadata = {
        "doc": doc,
        "min": minimum,
        "max": maximum,
        "choices": choices,
        "aliases": tuple(aliases),
        "supported": supported,
        "saved_name": saved_name,
    }
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def required(doc: str, **bounds: Any) -> Any:
    """A field that every config must set."""
    return opt(MISSING, doc, **bounds)


def section(cls: type, doc: str) -> Any:
    """A nested dataclass, built from its defaults where YAML does not set it."""
    return field(default_factory=cls, metadata={"doc": doc, "aliases": ()})


def saved_name(of: "Field[Any]") -> str:
    """The name of a schema field in model folders and digests."""
    return of.metadata.get("saved_name") or of.name


def default_of(of: "Field[Any]") -> Any:
    """The default of a schema field; MISSING if it has none."""
    return of.default if of.default_factory is MISSING else of.default_factory()
