"""Optional packages: what is missing, and the command that installs it."""

import importlib.util
import sys

from mmpt.utils.errors import MissingDataError

_LEGACY = sys.version_info < (3, 13)
_PINNED = {"mediapipe": f"mediapipe{'==0.10.21' if _LEGACY else ''}", "cv2": "opencv-contrib-python"}
VIDEO = ("mediapipe", "av", "cv2")
"""Modules that poses of videos need."""
DRAWING = ("av", "cv2")
"""Modules that images of poses need."""


def need_packages(what: str, modules: tuple[str, ...]) -> None:
    """Raises MissingDataError, with all missing packages of `modules`, if `what` cannot be done."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(_PINNED.get(name, name) for name in missing)
        raise MissingDataError(
            f"{what} needs packages that are not installed ({', '.join(missing)}): "
            f"`pip install {names}`, or `make install` in a checkout."
        )
