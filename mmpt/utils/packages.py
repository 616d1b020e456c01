"""Optional packages: what is missing, and the extra that installs it."""

import importlib.util
from pathlib import Path

from mmpt.utils.errors import MissingDataError

VIDEO = ("mediapipe", "av", "cv2")
"""Modules that poses of videos need."""
DRAWING = ("av", "cv2")
"""Modules that images of poses need."""


def package_folder(name: str) -> Path | None:
    """The folder of an installed package, which is not imported; None if there is none."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    folders = spec.submodule_search_locations if spec else None
    return Path(next(iter(folders))) if folders else None


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
