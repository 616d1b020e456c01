"""Base classes of extractors: a reader for the worker processes and, optionally, a network runner.

Two kinds. A `FileReader` does all the work in the worker process and writes the result (poses, copied
arrays). A `StreamReader` only decodes there; its windows travel to the main process, where one network runs
on those of all clips together.
"""

import abc
import argparse
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

_SUFFIXES = """
3gp asf avi flv gif h264 m1v m2ts m2v m4v mj2 mkv mov mp4 mpeg mpg mts mxf ogg ogv ts vob webm wmv y4m
"""
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""Endings of the files that are taken for videos; whether one is, the decoder decides."""


@dataclass
class Outcome:
    """Result of reading a source completely."""

    facts: dict[str, Any] = field(default_factory=dict)
    """For the manifest: frames, rate, size, hands seen, ... JSON values."""
    notes: list[str] = field(default_factory=list)
    """Warnings to review."""
    status: Literal["done", "skipped"] = "done"
    """"skipped": by policy nothing is written for this source."""


class FileReader(abc.ABC):
    """Picklable: is sent to the worker processes. Its module must import quickly."""

    @abc.abstractmethod
    def convert(self, source: Path, target: Path) -> Outcome:
        """Read `source`, write the finished result to `target`. Raises UserError when `source` is unfit."""


class StreamReader(abc.ABC):
    """Picklable: is sent to the worker processes. Its module may not import torch."""

    @abc.abstractmethod
    def windows(self, source: Path) -> Generator[np.ndarray, None, Outcome]:
        """Windows uint8 [T, H, W, 3], at least one, each to become a token; at the end an Outcome.

        Raises UserError when `source` is unfit.
        """


class Extractor(abc.ABC):
    """One way of making features, with its options."""

    name: ClassVar[str]
    """As on the command line and in manifests."""
    suffix: ClassVar[str] = ".npy"
    """Of the files it writes."""
    source_suffixes: ClassVar[frozenset[str]] = VIDEO_SUFFIXES
    """Endings, in lower case, of the files it reads."""
    version: ClassVar[int] = 2
    """Increased when the code changes the output, so that older files are recomputed."""

    @classmethod
    @abc.abstractmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Declare this extractor's own options."""

    @classmethod
    @abc.abstractmethod
    def from_args(cls, args: argparse.Namespace) -> Self:
        """Make it from parsed options. Raises UserError on values that cannot be."""

    @abc.abstractmethod
    def reader(self) -> FileReader | StreamReader:
        """What the worker processes run."""

    @abc.abstractmethod
    def options(self) -> dict[str, Any]:
        """Options that affect the output, as JSON values. If one changes, all files are recomputed."""

    def tools(self) -> dict[str, str]:
        """Versions and hardware for the manifest. A change of these alone recomputes nothing."""
        return {}

    def network(self) -> "NetworkRunner | None":
        """For a StreamReader: what turns its windows into tokens, ready to run."""
        return None

    def finish(self, tokens: np.ndarray) -> np.ndarray:
        """The array to save, of a clip's tokens float32 [n, D] in their order."""
        return tokens

    def default_workers(self, cores: int) -> int:
        """Worker processes on a machine of so many cores."""
        return cores


class NetworkRunner(abc.ABC):
    """Runs a network on windows as they come, from several threads."""

    @abc.abstractmethod
    def start(self, deliver: "Callable[[Any, np.ndarray | BaseException], None]") -> None:
        """Begin; `deliver(key, token [D])`, or an exception in its place, is called from other threads."""

    @abc.abstractmethod
    def submit(self, key: Any, window: np.ndarray) -> None:
        """Hand over a window. Waits while enough others are waiting; returns without effect after `stop`."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Drop what waits and end the threads. May be called twice."""
