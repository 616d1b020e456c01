"""Field constructors of the schema: default, meaning and allowed values of each key."""

from collections.abc import Sequence
from dataclasses import MISSING, Field, field
from types import MappingProxyType
from typing import Any


def opt(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[Any] | None = None,
    aliases: Sequence[str] = (),
    supported: bool = True,
) -> Any:
    """A dataclass field with its meaning, its bounds (inclusive) and the aliases published YAMLs use for it.

    supported: false for a published option that mmpt does not implement (see published.py).
    """
    metadata = {
        "doc": doc,
        "min": minimum,
        "max": maximum,
        "choices": choices,
        "aliases": tuple(aliases),
        "supported": supported,
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


def renamed(old: str, made: Any) -> Any:
    """The field `made` after a rename: YAML may still use the name `old`, and saved files still do.

    Model folders and digests keep the old name, so that the same settings give the same bytes as before and
    older versions of mmpt read new folders.
    """
    made.metadata = MappingProxyType(
        {**made.metadata, "aliases": (old, *made.metadata["aliases"]), "saved_name": old}
    )
    return made


def saved_name(of: "Field[Any]") -> str:
    """The name of a schema field in model folders and digests (see renamed)."""
    return of.metadata.get("saved_name", of.name)
