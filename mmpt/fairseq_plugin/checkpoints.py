"""Checkpoints that are never half-written.

fairseq writes the first of an epoch's checkpoints under a temporary name and renames it, and then copies it
onto the others in place: a kill during that copy leaves a torn checkpoint_last.pt. Here the copy is renamed
into place as well; where the file system can, it is a second name of the same file, which costs nothing (a
later checkpoint is a new file and leaves the other name's content alone).
"""

import contextlib
import logging
import os
import shutil
from pathlib import Path

import torch
from fairseq.file_io import PathManager

from mmpt.config.compare import SAVED
from mmpt.fairseq_plugin.args import LAST
from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write

log = logging.getLogger(__name__)

BEST = "checkpoint_best.pt"


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


def keep_best(folder: Path) -> None:
    """Where a training has its best checkpoint and not its last, let it go on from the best: it would begin
    anew, and write over it.

    The last is missing where somebody deleted it, or where a kill came between the two names of the first.
    Raises UserError where the best is of no training in this folder: it was brought, and is not to be lost.
    """
    best, last = folder / BEST, folder / LAST
    if last.exists() or not best.is_file():
        return
    if not (folder / SAVED).is_file():
        raise UserError(
            f"{best} is of no training in its folder (there is no {SAVED} beside it), and this one would "
            "write over it: move it away, or name another fairseq.checkpoint.save_dir."
        )
    log.warning("%s is not there: going on from %s", last, BEST)
    _copy(str(best), str(last))
