"""The peaks of each finished recording, in a file, so that an interrupted run can be resumed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.spotting.finding import Found
from mmpt.spotting.peaks import Peaks
from mmpt.spotting.scores import Unread
from mmpt.utils.arrays import save_npz
from mmpt.utils.errors import UserError
from mmpt.utils.outputs import differing

FOLDER = "peaks"
_FORMAT = 1


def save_peaks(path: Path, found: Found, of: dict[str, Any]) -> None:
    """Write the peaks of a recording, or why it has none. of: what they depend on."""
    about = json.dumps({"format": _FORMAT, "of": of, "unread": asdict(found.unread), "failed": found.failed})
    save_npz(
        path,
        spans=found.peaks.spans,
        texts=found.peaks.texts,
        scores=found.peaks.scores,
        curve=found.curve,
        about=np.frombuffer(about.encode(), np.uint8),
    )


def load_peaks(path: Path, of: dict[str, Any], force: bool = False) -> Found | None:
    """The peaks of an earlier run with the same settings; None if there are none.

    Raises UserError for a file of another program, and, unless `force`, for peaks with other settings, if
    the recording could be searched.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as parts:
            about = json.loads(parts["about"].tobytes())
            peaks = Peaks(parts["spans"], parts["texts"], parts["scores"])
            found = Found(peaks, parts["curve"], Unread(**about["unread"]), about.get("failed", ""))
    except Exception as error:
        raise UserError(
            f"{path} was not written by this command, or is damaged ({error}): delete it, or give another "
            "folder."
        ) from None
    if about["of"] == of and about["format"] == _FORMAT:
        return found
    if not force and not found.failed:
        raise UserError(
            f"{path} holds peaks of another run ({differing(about['of'], of)}): give another folder, or "
            "--force to replace them."
        )
    return None
