"""A record of what results depend on: a digest of the settings, and hashes of the data and of its clips."""

import contextlib
import functools
import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmpt.config import Config
from mmpt.config.compare import without_defaults
from mmpt.config.schema import DatasetConfig
from mmpt.processors import META_PROCESSORS, VIDEO_PROCESSORS
from mmpt.processors.example import Example
from mmpt.processors.pose_video import default_cache
from mmpt.utils.errors import UserError
from mmpt.utils.files import file_stamp, read_record, sha256, write_json

log = logging.getLogger(__name__)

DATA_FILES = ("table_path", "train_path", "val_path", "test_path", "gesture_id_path")
"""Keys of `dataset` that name the files which choose clips and prompts."""
CLIPS, FILES = "clips of ", "files of "
# paths and options of speed: no result depends on them
_IRRELEVANT = {
    "dataset": ("vfeat_dir", "cache_dir", "store_shards", "check_sources", "allow_trial_features"),
    "eval": ("save_path", "after_training", "batch_size", "device", "trust_checkpoint"),
    "model": (),
}
_BLOCK = 1 << 14
_THREADS, _MANY = 4, 1000


def digest(content: Any) -> str:
    """Hex SHA-256 of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def evaluation_facts(config: Config) -> dict[str, Any]:
    """What the results of an evaluation depend on, besides the checkpoint.

    {"settings": a digest, "files": see data_files}. The digest excludes paths, and default values so that new
    keys of mmpt do not change the digest of old results.
    """
    content: dict[str, Any] = {}
    for section, irrelevant in _IRRELEVANT.items():
        kept = without_defaults(getattr(config, section))
        content[section] = {key: value for key, value in kept.items() if key not in irrelevant}
    for key in DATA_FILES:
        content["dataset"][key] = getattr(config.dataset, key) is not None
    return {"settings": digest(content), "files": data_files(config, (config.dataset.split or "test",))}


def data_files(config: Config, splits: Sequence[str] = ()) -> dict[str, str]:
    """Hex SHA-256 of each existing file that the config names in DATA_FILES, by dotted key.

    With "clips of SPLIT" and "files of SPLIT" for each of `splits` that can be read: see clips_digest and
    content_digest. Records of older versions have no "files of SPLIT".
    """
    paths = {key: getattr(config.dataset, key) for key in DATA_FILES}
    found = {f"dataset.{key}": sha256(path) for key, path in paths.items() if path and Path(path).is_file()}
    for split in splits:
        with contextlib.suppress(UserError):
            found[f"{CLIPS}{split}"] = clips_digest(config.dataset, split)
            found[f"{FILES}{split}"] = content_digest(config.dataset, split)
    return found


def changed_files(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Keys of files (see data_files) whose content differs. Files in only one of the two are not compared.

    "clips of SPLIT" also stands for "files of SPLIT".
    """
    changed = (key for key in before.keys() & now.keys() if before[key] != now[key])
    return sorted({CLIPS + key.removeprefix(FILES) if key.startswith(FILES) else key for key in changed})


def clips_digest(config: DatasetConfig, split: str) -> str:
    """Hex SHA-256 of the clips of a split, in order: ids, prompts, spans, mirroring, parts of the files.

    Where the files lie does not matter. Clips that dataset.on_bad_example=skip would leave out count as well.
    Raises MissingDataError or UserError if the corpus cannot be read.
    """
    digest = hashlib.sha256()
    for clip in _clips(config, split):
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


def content_digest(config: DatasetConfig, split: str) -> str:
    """Hex SHA-256 of the whole files of a split, in order.

    The hash of a file is kept in the cache of poses, with its size, times and inode, so that each is read
    once. Raises as clips_digest.
    """
    paths = list(dict.fromkeys(str(clip.path) for clip in _clips(config, split)))
    kept = Path(config.cache_dir or default_cache()) / "hashes" / f"{digest(paths)[:32]}.json"
    known = read_record(kept)
    if len(paths) - len(known) > _MANY:
        log.info("%s: reading %d files once, to recognise the data later", split, len(paths) - len(known))
    with ThreadPoolExecutor(_THREADS) as threads:
        found = dict(zip(paths, threads.map(_hashed, paths, map(known.get, paths))))
    if found != known:
        with contextlib.suppress(OSError):
            write_json(kept, found)
    return digest([found[path][-1] for path in paths])


def _hashed(path: str, before: Any) -> list[Any]:
    """The stamp and the hash of a file, "" if it cannot be read. before: the same of an earlier time."""
    try:
        stamp = list(file_stamp(Path(path).stat()))
        if isinstance(before, list) and before[:-1] == stamp and isinstance(before[-1], str):
            return before
        return [*stamp, sha256(path)]
    except OSError:
        return [""]


def _clips(config: DatasetConfig, split: str) -> Sequence[Example]:
    suffix = VIDEO_PROCESSORS.get(config.video_processor, "dataset.video_processor").suffix
    corpus = META_PROCESSORS.get(config.meta_processor, "dataset.meta_processor")
    return corpus.from_config(config, split, suffix).examples


def _content(path: Path) -> str:
    """A digest of a file, "" if there is none."""
    return _sampled(path, *file_stamp(path.stat())) if path.is_file() else ""


@functools.lru_cache(maxsize=1 << 18)
def _sampled(path: Path, size: int, *stamp: int) -> str:
    """A digest of a file's size and of 16 KiB at its start, middle and end, which is read once."""
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for start in sorted({0, max(0, (size - _BLOCK) // 2), max(0, size - _BLOCK)}):
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:32]
