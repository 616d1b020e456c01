"""Whether two runs have the same data: a digest of the clips of a split, with their prompts."""

import functools
import hashlib
import json
from pathlib import Path

from mmpt.config.schema import DatasetConfig
from mmpt.processors import META_PROCESSORS, VIDEO_PROCESSORS

_BLOCK = 1 << 14


def clips_digest(config: DatasetConfig, split: str) -> str:
    """Hex SHA-256 of the clips of a split, in order: ids, prompts, spans, mirroring and content of the files.

    Where the files lie does not matter. Clips that dataset.on_bad_example=skip would leave out count as well.
    Raises MissingDataError or UserError if the corpus cannot be read.
    """
    suffix = VIDEO_PROCESSORS.get(config.video_processor, "dataset.video_processor").suffix
    corpus = META_PROCESSORS.get(config.meta_processor, "dataset.meta_processor")
    digest = hashlib.sha256()
    for clip in corpus.from_config(config, split, suffix).examples:
        facts = [
            clip.video_id,
            clip.text,
            clip.other_texts,
            clip.mirror,
            repr(clip.span),
            _content(clip.path),
        ]
        digest.update(json.dumps(facts).encode())
    return digest.hexdigest()


def _content(path: Path) -> str:
    """A digest of a file, "" if there is none."""
    if not path.is_file():
        return ""
    stat = path.stat()
    return _sampled(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@functools.lru_cache(maxsize=1 << 18)
def _sampled(path: Path, size: int, *stamp: int) -> str:
    """A digest of a file's size and of 16 KiB at its start, middle and end, which is read once."""
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for start in sorted({0, max(0, (size - _BLOCK) // 2), max(0, size - _BLOCK)}):
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:32]
