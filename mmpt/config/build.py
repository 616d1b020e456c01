"""Build the schema's dataclasses from a plain tree, strictly."""

import difflib
import functools
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin

from mmpt.utils.errors import UserError

T = TypeVar("T")
_type_hints = functools.cache(typing.get_type_hints)


@dataclass(frozen=True)
class Source:
    """The origin of keys: the main file, and the file or override of each dotted key.

    full_keys: last part of a key -> the dotted keys that end with it, for errors.
    """

    file: str
    of_key: Mapping[str, str]
    full_keys: Callable[[str], list[str]] = lambda name: []

    def of(self, key: str) -> str:
        """The file or override that set `key` or its nearest enclosing section."""
        while key:
            if key in self.of_key:
                return self.of_key[key]
            key = key.rpartition(".")[0]
        return self.file

    def hint(self, key: object, there: Iterable[str], prefix: str) -> str:
        """The sentence " Did you mean ...?" with keys of that name, or the nearest of `there`; else ""."""
        near = difflib.get_close_matches(str(key), list(there), n=1, cutoff=0.5)
        meant = self.full_keys(str(key)) or [f"{prefix}{name}" for name in near]
        return f" Did you mean {' or '.join(meant)}?" if meant else ""


def aliases(cls: type) -> dict[str, str]:
    """Alias -> name of the field, for the fields of a schema dataclass."""
    return {alias: f.name for f in fields(cls) for alias in f.metadata.get("aliases", ())}


def build(cls: type[T], tree: Any, source: Source, prefix: str = "") -> T:
    """Build the dataclass `cls` from `tree`.

    Raises UserError for keys that are unknown, missing, of the wrong type or out of range.
    """
    if not isinstance(tree, dict):
        raise UserError(
            f"{source.of(prefix.rstrip('.'))}: {prefix.rstrip('.')}: expected a section, got {_show(tree)}."
        )
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    names = aliases(cls)
    hints = _type_hints(cls)  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        name = names.get(key, key)
        if name not in known:
            if source.of(dotted) != source.file and not re.fullmatch(r"\w+", str(key)):
                # a line of an included file that is no config, which the message must not show
                raise UserError(f"{source.of(dotted)}: it holds a key that is no name: expected a config.")
            there = [*known, *names]
            hint = source.hint(key, there, prefix) or f" Known keys here: {', '.join(sorted(there))}."
            raise UserError(f"{source.of(dotted)}: unknown key {dotted}.{hint}{_unquoted(key, str)}")
        if name in values:
            raise UserError(
                f"{source.of(dotted)}: {dotted} is an alias of {prefix}{name}, and both are set: keep one."
            )
        if is_dataclass(hints[name]):
            values[name] = build(hints[name], {} if value is None else value, source, f"{dotted}.")
            continue
        values[name] = _check(value, hints[name], known[name].metadata, f"{source.of(dotted)}: {dotted}")
    for name, f in known.items():
        if name not in values and f.default is MISSING and f.default_factory is MISSING:
            doc = f.metadata.get("doc")
            meaning = f" ({doc})" if doc else ""
            raise UserError(f"{source.file}: missing key {prefix}{name}{meaning}.")
    return cls(**values)


def _check(value: Any, hint: Any, bounds: Mapping[str, Any], where: str) -> Any:
    converted = _convert(value, hint)
    if converted is _WRONG:
        raise UserError(f"{where}: expected {_describe(hint)}, got {_show(value)}.{_unquoted(value, hint)}")
    if converted == "" and where.endswith(("_path", "_dir", "_name")):
        raise UserError(f"{where}: it is empty: give a name, or leave it out.")
    choices = bounds.get("choices")
    if choices is not None and converted is not None and converted not in choices:
        raise UserError(f"{where}: expected one of {', '.join(map(str, choices))}, got {_show(value)}.")
    for number in _numbers(converted):
        if abs(number) == math.inf:
            raise UserError(f"{where}: expected a finite number, got {_show(value)}.")
        low, high = bounds.get("min"), bounds.get("max")
        if number != number or (low is not None and number < low) or (high is not None and number > high):
            span = (
                f"at least {low}"
                if high is None
                else f"at most {high}"
                if low is None
                else f"from {low} to {high}"
            )
            raise UserError(f"{where}: expected {span}, got {_show(value)}.")
    return converted


_WRONG = object()


def _convert(value: Any, hint: Any) -> Any:
    """`value` as type `hint`, or _WRONG. Only int to float is converted."""
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        for option in get_args(hint):
            converted = _convert(value, option)
            if converted is not _WRONG:
                return converted
        return _WRONG
    if hint is type(None):
        return None if value is None else _WRONG
    if origin is list:
        if not isinstance(value, list):
            return _WRONG
        items = [_convert(item, get_args(hint)[0]) for item in value]
        return _WRONG if any(item is _WRONG for item in items) else items
    if origin is dict:
        return value if isinstance(value, dict) else _WRONG
    if hint is float:
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else _WRONG
    if hint is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else _WRONG
    assert hint in (bool, str), f"the schema uses a type that the loader does not support: {hint}"
    return value if isinstance(value, hint) else _WRONG


def _unquoted(value: Any, hint: Any) -> str:
    """What to do if a text is not in quotes and YAML read it as something else, as a sentence; or ""."""
    if isinstance(value, list):
        value = next((item for item in value if not isinstance(item, str)), "")
    if isinstance(value, str | list | dict) or "text" not in _describe(hint):
        return ""
    return (
        " YAML reads no, off, yes and on as false and true, and 012 or 1:30 as a number: put a text in "
        "quotes, as in 'no'."
    )


def _numbers(value: Any) -> list[float]:
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def _describe(hint: Any) -> str:
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        type(None): "null",
        dict: "a section",
    }
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(option) for option in get_args(hint))
    if origin is list:
        return f"a list, each item {_describe(get_args(hint)[0])}"
    return names.get(origin or hint, str(hint))


def _show(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"
