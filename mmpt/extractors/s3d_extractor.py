"""Videos -> S3D features as in VideoCLIP: one unit vector of dimension 512 per second."""

from fractions import Fraction

import numpy as np
import torch

from mmpt.extractors.network_extractor import NetworkExtractor
from mmpt.extractors.networks.s3d import S3D
from mmpt.extractors.networks.weights import load_strictly
from mmpt.extractors.windows import WindowReader
from mmpt.utils import missing_data_hints

FPS = 30


class S3DExtractor(NetworkExtractor):
    """S3D features of videos: float16 [seconds, 512].

    30 fps, short side scaled to 224, centre crop 224x224, pixels in [0, 1], windows of 30 frames without
    overlap, the last one padded with zeros.
    """

    name = "s3d"
    origin = missing_data_hints.S3D
    gain = 2.6  # the gates halve the signal: with 2 the output would hardly depend on the input
    offset = 0.0

    def reader(self) -> WindowReader:
        return WindowReader(
            fps=Fraction(FPS),
            fit="short_side",
            size=224,
            crop=224,
            interpolation="bicubic",
            length=FPS,
            stride=FPS,
            tail="zeros",
        )

    def build(self, state: dict[str, torch.Tensor] | None, where: str) -> S3D:
        network = S3D()
        if state is not None:
            # the published file also holds the text model that was trained with it
            load_strictly(network, state, where, skip="text_module.")
        return network

    def finish(self, tokens: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(tokens, axis=1, keepdims=True)
        return (tokens / np.maximum(norms, 1e-12)).astype(np.float16)
