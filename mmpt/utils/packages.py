"""Optional packages: what is missing, and the extra that installs it."""

import importlib.util

from mmpt.utils.errors import MissingDataError

VIDEO = ("mediapipe", "av", "cv2")
"""Modules that poses of videos need."""
DRAWING = ("av", "cv2")
"""Modules that images of poses need."""


def need_packages(what: str, modules: tuple[str, ...], extra: str = "extract") -> None:
    """Raises MissingDataError, with all missing packages of `modules`, if `what` cannot be done.

    extra: what installs them (setup.py). A module is not always named like its package: `multipart` is
    python-multipart's.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDataError(
            f"{what} needs packages that are not installed ({', '.join(missing)}): "
            f'`pip install "mmpt[{extra}]"`, or `make install` in a checkout.'
        )
