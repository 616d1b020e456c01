"""Import fairseq without scikit-learn and scipy.stats, which take longer than fairseq itself.

Only fairseq's own tasks for audio and criteria for sentence pairs call them.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """A module whose functions import the real module when they are called."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, loader=None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return call


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Functions can be imported from these modules, parents first; a module is imported when one is called.

    Modules that are imported already, or not installed, are left alone.
    """
    modules = {}
    for name in names:
        package, _, inner = name.rpartition(".")
        if name in sys.modules or (package not in modules and not importlib.util.find_spec(package or name)):
            continue
        modules[name] = _Deferred(name)
        if package in modules:
            setattr(modules[package], inner, modules[name])
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


with deferred("sklearn", "sklearn.metrics", "scipy.stats"):
    import fairseq.tasks  # noqa: F401
