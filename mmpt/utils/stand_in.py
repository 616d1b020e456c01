"""Mark folders of stand-in data, such as rendered videos, with a note in a file.

Tables of results repeat the notes, and refuse stand-in data unless it is allowed.
"""

import os
from pathlib import Path

from mmpt.utils.files import write_text

NAME = "STAND_IN.txt"


def mark_stand_in(folder: str | os.PathLike[str], note: str) -> None:
    """Mark the content of `folder` as stand-in data; `note` is one line."""
    write_text(Path(folder) / NAME, f"{' '.join(note.split())}\n")


def stand_in_note(folder: str | os.PathLike[str]) -> str | None:
    """The note of a folder of stand-in data, else None."""
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    return lines[0] if lines else "a stand-in"
