"""Videos -> I3D features of dimension 1024 for each window of 16 frames, as for BSL-1K."""

import argparse
from fractions import Fraction
from typing import Any

import torch

from mmpt.extractors.network_extractor import NetworkExtractor
from mmpt.extractors.networks.i3d import I3D
from mmpt.extractors.networks.weights import load_strictly
from mmpt.extractors.windows import WindowReader
from mmpt.utils import missing_data_hints
from mmpt.utils.errors import UserError

FPS = 25
FRAMES = 16


class I3DExtractor(NetworkExtractor):
    """I3D features of videos: float32 [windows, 1024].

    25 fps, scaled to 256x256 (aspect ratio not kept), centre crop 224x224, pixels in [-0.5, 0.5], windows of
    16 frames every `stride` frames, the last one aligned with the end. The default stride gives one token a
    second.
    """

    name = "i3d"
    origin = missing_data_hints.I3D
    gain = 2.0
    offset = -0.5

    def __init__(self, weights: str, stride: int = FPS, **options: Any):
        super().__init__(weights, **options)
        if stride < 1:
            raise UserError(f"--stride {stride}: expected a number of frames, 1 or more.")
        self.stride = stride

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--stride",
            type=int,
            default=FPS,
            help=f"frames from one window to the next, at {FPS} fps (default {FPS}: one token per second)",
        )

    @classmethod
    def keywords(cls, args: argparse.Namespace) -> dict[str, Any]:
        return {**super().keywords(args), "stride": args.stride}

    def reader(self) -> WindowReader:
        return WindowReader(
            fps=Fraction(FPS),
            fit="square",
            size=256,
            crop=224,
            interpolation="bilinear",
            length=FRAMES,
            stride=self.stride,
            tail="aligned",
        )

    def build(self, state: dict[str, torch.Tensor] | None, where: str) -> I3D:
        if state is None:
            return I3D()
        head = state.get("logits.conv3d.weight")
        network = I3D(len(head) if head is not None and head.dim() == 5 else 5383)
        load_strictly(network, state, where)
        return network
