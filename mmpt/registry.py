"""Registries: names in YAML -> classes. A failed look-up lists the known names."""

import difflib
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from mmpt.utils.errors import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """The named entries of one kind: models, losses, processors, extractors, ...

    >>> LOSSES = Registry("loss")
    >>> @LOSSES.register("MMContraLoss")
    ... class MMContraLoss: ...
    >>> LOSSES.get("MMContraLoss")
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, *names: str) -> Callable[[T], T]:
        """Decorator that registers a class or function under one or more names."""

        def decorate(entry: T) -> T:
            for name in names:
                assert name not in self._entries, f"{self.kind} {name!r} is registered twice"
                self._entries[name] = entry
            return entry

        return decorate

    def get(self, name: str, where: str = "") -> T:
        """The entry called `name`. where: the config key to name in the UserError."""
        if name in self._entries:
            return self._entries[name]
        place = f"{where}: " if where else ""
        raise UserError(
            f"{place}there is no {self.kind} called {name!r}.{nearest(name, self._entries)} Known: "
            f"{', '.join(sorted(self._entries))}."
        )

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries


def nearest(word: str, names: Iterable[str]) -> str:
    """The sentence " Did you mean 'X'?" with the name most like `word`, or "" if none is like it."""
    near = difflib.get_close_matches(str(word), list(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
