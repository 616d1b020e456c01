"""Base classes of extractors: a reader for the worker processes and, optionally, a network runner.

A `FileReader` does all the work in the worker process and writes the result (poses, copied arrays). A
`StreamReader` only decodes there; its windows go to the main process, where one network runs on the windows
of all clips.
"""

import abc
import argparse
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from mmpt.utils.videos import VIDEO_SUFFIXES

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Outcome:
    """Result of reading a source completely."""

    facts: dict[str, Any] = field(default_factory=dict)
    """For the manifest: frames, rate, size, hands seen, ... JSON values."""
    notes: list[str] = field(default_factory=list)
    """Warnings to review."""
    status: Literal["done", "skipped"] = "done"
    """"skipped": nothing is written for this source, as an option asked."""


class FileReader(abc.ABC):
    """Picklable, because it is sent to the worker processes. Its module must import quickly."""

    @abc.abstractmethod
    def convert(self, source: Path, target: Path) -> Outcome:
        """Read `source` and write the result to `target`. Raises UserError if `source` cannot be used."""


class StreamReader(abc.ABC):
    """Picklable, because it is sent to the worker processes. Its module must not import torch."""

    @abc.abstractmethod
    def windows(self, source: Path) -> "Generator[np.ndarray, None, Outcome]":
        """Yield windows uint8 [T, H, W, 3], at least one, one per token; return an Outcome.

        Raises UserError if `source` cannot be used.
        """


class Extractor(abc.ABC):
    """A method of computing features, with its options."""

    name: ClassVar[str]
    """Name on the command line and in manifests."""
    suffix: ClassVar[str] = ".npy"
    """Suffix of the output files."""
    source_suffixes: ClassVar[frozenset[str]] = VIDEO_SUFFIXES
    """Suffixes of the input files, in lower case."""
    version: ClassVar[int] = 2
    """Increased when the code changes the output, so that older files are recomputed."""
    same_in_folder: ClassVar[tuple[str, ...]] = ()
    """Options that all files of a folder share: a run with another value is refused, unless it redoes all."""

    @classmethod
    @abc.abstractmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Declare this extractor's own options."""

    @classmethod
    @abc.abstractmethod
    def from_args(cls, args: argparse.Namespace) -> Self:
        """Build the extractor from parsed options. Raises UserError for invalid values."""

    @abc.abstractmethod
    def reader(self) -> FileReader | StreamReader:
        """What the worker processes run."""

    @abc.abstractmethod
    def options(self) -> dict[str, Any]:
        """Options that affect the output, as JSON values. A change recomputes all files."""

    def tools(self) -> dict[str, str]:
        """Versions and hardware for the manifest. A change of these alone recomputes nothing."""
        return {}

    def network(self) -> "NetworkRunner | None":
        """For a StreamReader: the network that turns its windows into tokens."""
        return None

    def finish(self, tokens: "np.ndarray") -> "np.ndarray":
        """The array to save for a clip's tokens float32 [n, D]."""
        return tokens

    def default_workers(self, cores: int) -> int:
        """Default number of worker processes on a machine with `cores` cores."""
        return cores


class NetworkRunner(abc.ABC):
    """Runs a network on windows that several threads submit."""

    @abc.abstractmethod
    def start(self, deliver: "Callable[[Any, np.ndarray | BaseException], None]") -> None:
        """Start. Other threads call `deliver(key, token [D])`, or with an exception in place of the token."""

    @abc.abstractmethod
    def submit(self, key: Any, window: "np.ndarray") -> None:
        """Queue a window. Blocks while the queue is full; does nothing after `stop`."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Discard queued windows and end the threads. May be called twice."""
