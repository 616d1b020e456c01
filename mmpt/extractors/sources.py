"""Find the files to extract in a folder, and name their results."""

import logging
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mmpt.extractors.workers import TEMPORARY
from mmpt.utils.errors import UserError
from mmpt.utils.files import files_under
from mmpt.utils.text import nfc

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A file to extract. key: its path in the input folder, with `/`. output: the path of its result."""

    key: str
    path: Path
    output: str


def find_sources(folder: Path, out: Path, suffixes: frozenset[str], output_suffix: str) -> list[Source]:
    """All files of a folder, at any depth, whose ending (in any case) is one of `suffixes`, sorted by path.

    Which files are looked at, see files_under. Raises UserError when there is none, or when two would give
    the same result.
    """
    if not folder.is_dir():
        raise UserError(f"--in {folder}: there is no such folder.")
    found: list[Source] = []
    ignored: Counter[str] = Counter()
    for path in files_under(folder, skip=out):
        if path.suffix.lower() not in suffixes:
            ignored[path.suffix.lower() or "no ending"] += 1
            continue
        relative = path.relative_to(folder)
        found.append(Source(relative.as_posix(), path, relative.with_suffix(output_suffix).as_posix()))
    if ignored:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in ignored.most_common(5))
        log.info("%s: %d other files are left alone (%s)", folder, sum(ignored.values()), kinds)
    if not found:
        raise UserError(f"--in {folder}: no file to read; expected some of {' '.join(sorted(suffixes))}.")
    _refuse_collisions(found)
    return sorted(found, key=lambda source: source.key)


def _refuse_collisions(sources: list[Source]) -> None:
    by_output: dict[str, Source] = {}
    for source in sources:
        # one name on file systems that keep accents apart from letters, or upper case apart from lower, on
        # others
        name = nfc(source.output)
        if name in by_output:
            raise UserError(
                f"{by_output[name].path} and {source.path} would both become {source.output}: "
                f"rename one of them."
            )
        by_output[name] = source


def remove_unfinished(out: Path, suffix: str) -> int:
    """Delete leftover temporary files of killed runs; returns how many. Hold the folder's lock."""
    pattern = re.compile(rf"{TEMPORARY}")
    removed = 0
    for root, _, files in os.walk(out):
        for name in files:
            if pattern.fullmatch(name) and name.endswith((f".tmp{suffix}", ".tmp.json")):
                Path(root, name).unlink(missing_ok=True)
                removed += 1
    return removed
