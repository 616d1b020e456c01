"""Base class of extractors that run a frozen network: weights, device, dtype, batching."""

import abc
import argparse
import dataclasses
import functools
from typing import Any, ClassVar, Self

import torch

from mmpt.extractors.base import Extractor
from mmpt.extractors.inference import DTYPES, Inference, choose_dtype
from mmpt.extractors.networks.layers import FrozenNetwork
from mmpt.extractors.networks.weights import fill_randomly, read_weights
from mmpt.extractors.windows import WindowReader
from mmpt.utils.device import choose_device
from mmpt.utils.errors import UserError
from mmpt.utils.parallel import check_workers


class NetworkExtractor(Extractor):
    """A video encoder with weights from a file. Subclasses define its windows and build the network.

    Args:
        weights: a file, or `random:SEED`.
        device, dtype: names, or "auto".
        threads: windows computed at once on a CPU (0: one per core); batch: the same on a GPU.
        compiled: use torch.compile.
        trust_checkpoint: read a weights file that could run code.
    """

    origin: ClassVar[str]
    """A sentence that says where to get the official weights."""
    gain: ClassVar[float]
    """Gain of random weights (see fill_randomly)."""
    offset: ClassVar[float]
    """Added to pixels in [0, 1]."""

    def __init__(
        self,
        weights: str,
        device: str = "auto",
        dtype: str = "auto",
        threads: int = 0,
        batch: int = 16,
        compiled: bool = False,
        trust_checkpoint: bool = False,
    ):
        if batch < 1:
            raise UserError(f"--batch-size {batch}: expected at least 1.")
        self.weights, self.trust_checkpoint = weights, trust_checkpoint
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.threads = check_workers(threads, 0, "--threads")
        self.batch, self.compiled = batch, compiled

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--weights",
            required=True,
            metavar="FILE|random:SEED",
            help="file of the official weights, or random weights for a test run",
        )
        parser.add_argument(
            "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:N"
        )
        parser.add_argument(
            "--dtype",
            default="auto",
            choices=["auto", *DTYPES],
            help="dtype of the network; auto: bfloat16 on GPUs and CPUs with AMX, else float32",
        )
        parser.add_argument(
            "--threads", type=int, default=0, help="windows at once on a CPU (default: one per core)"
        )
        parser.add_argument("--batch-size", type=int, default=16, help="windows at once on a GPU")
        parser.add_argument(
            "--compile", action="store_true", help="torch.compile the network (slow to start)"
        )
        parser.add_argument(
            "--trust-checkpoint",
            action="store_true",
            help="read a weights file that could run code; only for files whose author you trust",
        )

    @classmethod
    def keywords(cls, args: argparse.Namespace) -> dict[str, Any]:
        """The constructor's arguments, from parsed options."""
        return {
            "weights": args.weights,
            "device": args.device,
            "dtype": args.dtype,
            "threads": args.threads,
            "batch": args.batch_size,
            "compiled": args.compile,
            "trust_checkpoint": args.trust_checkpoint,
        }

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> Self:
        return cls(**cls.keywords(args))

    @abc.abstractmethod
    def reader(self) -> WindowReader:
        """Turns videos into the network's windows."""

    @abc.abstractmethod
    def build(self, state: dict[str, torch.Tensor] | None, where: str) -> FrozenNetwork:
        """The network, with a state dict loaded strictly if one is given."""

    @functools.cached_property
    def _weights(self) -> tuple[dict[str, torch.Tensor] | int, dict[str, Any]]:
        return read_weights(self.weights, self.origin, self.trust_checkpoint)

    def options(self) -> dict[str, Any]:
        reader = self.reader()
        windows = dataclasses.asdict(reader) | {"fps": str(reader.fps)}
        dtype = next(name for name, dtype in DTYPES.items() if dtype == self.dtype)
        return {"version": self.version, **self._weights[1], **windows, "dtype": dtype}

    def tools(self) -> dict[str, str]:
        import av
        import numpy as np

        device = self.device.type
        if device == "cuda":
            device = torch.cuda.get_device_name(self.device)
        return {
            "torch": torch.__version__,
            "av": av.__version__,
            "numpy": np.__version__,
            "device": device,
            "compile": str(self.compiled).lower(),
        }

    def load(self) -> FrozenNetwork:
        """The network with its weights, in float32 on the CPU."""
        state, _ = self._weights
        if isinstance(state, int):
            network = self.build(None, self.weights)
            fill_randomly(network, state, self.gain)
            return network
        return self.build(state, self.weights)

    def network(self) -> Inference:
        reader = self.reader()
        shape = (reader.length, reader.crop, reader.crop, 3) if self.compiled else None
        return Inference(
            self.load(),
            self.offset,
            self.device,
            self.dtype,
            threads=self.threads,
            batch=self.batch,
            compile_for=shape,
        )

    def default_workers(self, cores: int) -> int:
        """Fewer on a CPU: decoding takes a small part of the time of the network."""
        return max(1, min(8, cores // 4)) if self.device.type == "cpu" else min(8, cores)
