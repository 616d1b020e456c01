"""Checkpoints that are never half-written.

fairseq writes the first of an epoch's checkpoints under a temporary name and renames it, and then copies it
onto the
others in place: a kill during that copy leaves a torn checkpoint_last.pt. Here the copy is renamed into
place as well.
"""

import shutil

from fairseq.file_io import PathManager

from mmpt.utils.files import atomic_write


def _copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
    del overwrite  # fairseq always asks for it
    with atomic_write(dst_path) as temporary:
        shutil.copyfile(src_path, temporary)
    return True


def install() -> None:
    """Make fairseq copy checkpoints in one step."""
    PathManager.copy = staticmethod(_copy)
