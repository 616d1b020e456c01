"""Folders whose content stands in for something else, such as rendered videos: a note in a file says so.

Tables of results repeat the notes, and refuse to be made of stand-ins unless they are told to.
"""

import os
from pathlib import Path

from mmpt.utils.files import write_text

NAME = "STAND_IN.txt"


def mark_stand_in(folder: str | os.PathLike[str], note: str) -> None:
    """Say that what is in `folder` stands in for something else; `note` is one line."""
    write_text(Path(folder) / NAME, f"{' '.join(note.split())}\n")


def stand_in_note(folder: str | os.PathLike[str]) -> str | None:
    """What the content of `folder` is in truth, where it is marked as a stand-in."""
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    return lines[0] if lines else "a stand-in"
