"""Frozen feature extractors: videos -> the arrays that the models read.

To add one, write a subclass of `Extractor` (base.py) and register it here. Heavy libraries (torch, MediaPipe)
are imported only when an extractor is requested.
"""

from typing import TYPE_CHECKING, Any

from mmpt.extractors.base import Extractor
from mmpt.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmpt.extractors.networks.i3d import I3D
    from mmpt.extractors.networks.s3d import S3D

__all__ = ["EXTRACTORS", "I3D", "S3D", "Extractor", "get_extractor"]

EXTRACTORS: Registry["Callable[[], type[Extractor]]"] = Registry("extractor")
"""Name on the command line -> function that imports and returns the class."""


@EXTRACTORS.register("s3d")
def _s3d() -> type[Extractor]:
    from mmpt.extractors.s3d_extractor import S3DExtractor

    return S3DExtractor


@EXTRACTORS.register("i3d")
def _i3d() -> type[Extractor]:
    from mmpt.extractors.i3d_extractor import I3DExtractor

    return I3DExtractor


@EXTRACTORS.register("pose")
def _pose() -> type[Extractor]:
    from mmpt.extractors.holistic import HolisticExtractor

    return HolisticExtractor


@EXTRACTORS.register("npy")
def _npy() -> type[Extractor]:
    from mmpt.extractors.npy import NpyExtractor

    return NpyExtractor


def get_extractor(name: str) -> type[Extractor]:
    """The extractor class called `name`. Raises UserError if there is none."""
    return EXTRACTORS.get(name)()


def __getattr__(name: str) -> Any:
    if name == "S3D":
        from mmpt.extractors.networks.s3d import S3D

        return S3D
    if name == "I3D":
        from mmpt.extractors.networks.i3d import I3D

        return I3D
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
