"""Checkpoints that are never half-written.

fairseq writes the first of an epoch's checkpoints under a temporary name and renames it, and then copies it
onto the others in place: a kill during that copy leaves a torn checkpoint_last.pt. Here the copy is renamed
into place as well; where the file system can, it is a second name of the same file, which costs nothing (a
later checkpoint is a new file and leaves the other name's content alone).
"""

import contextlib
import os
import shutil
from pathlib import Path

import torch
from fairseq.file_io import PathManager

from mmpt.utils.files import atomic_write


def _copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
    del overwrite  # fairseq always asks for it
    with atomic_write(dst_path) as temporary:
        with contextlib.suppress(OSError):  # another disk, or no links there
            Path(temporary).unlink(missing_ok=True)
            os.link(src_path, temporary)
            return True
        shutil.copyfile(src_path, temporary)
    return True


def install() -> None:
    """Make fairseq copy checkpoints in one step, and torch write them without checksums nobody reads."""
    torch.serialization.set_crc32_options(False)
    PathManager.copy = staticmethod(_copy)
