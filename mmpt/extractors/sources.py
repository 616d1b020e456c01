"""Find the files to extract in a folder and name their outputs."""

import logging
import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mmpt.utils.errors import UserError
from mmpt.utils.files import TEMPORARY, files_under
from mmpt.utils.text import nfc

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A file to extract. key: its path in the input folder, with `/`. output: the path of its output."""

    key: str
    path: Path
    output: str


def find_sources(folder: Path, out: Path, suffixes: frozenset[str], output_suffix: str) -> list[Source]:
    """All files under a folder (see files_under) with one of `suffixes`, in any case, sorted by path.

    Raises UserError if there are none, or if two would have the same output.
    """
    if folder.is_file():
        raise UserError(f"--in {folder} is a file; a folder was expected: give its folder, {folder.parent}.")
    if not folder.is_dir():
        raise UserError(f"--in {folder}: there is no such folder.")
    found: list[Source] = []
    ignored: Counter[str] = Counter()
    for path in files_under(folder, skip=out):
        if path.suffix.lower() not in suffixes:
            ignored[path.suffix.lower() or "without a suffix"] += 1
            continue
        relative = path.relative_to(folder)
        found.append(Source(relative.as_posix(), path, relative.with_suffix(output_suffix).as_posix()))
    if ignored:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in ignored.most_common(5))
        log.info("%s: ignored %d other files (%s)", folder, sum(ignored.values()), kinds)
    if not found:
        raise UserError(
            f"--in {folder}: no file to extract; expected files ending in {' '.join(sorted(suffixes))}."
        )
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
                f"{by_output[name].path} and {source.path} would both be written to {source.output}: "
                f"rename one of them."
            )
        by_output[name] = source


def remove_unfinished(out: Path, suffix: str, outputs: Collection[str] | None = None) -> int:
    """Delete leftover temporary files of killed runs; returns the count. Lock the folder first.

    outputs: delete those of these results only, because other shards write into the folder.
    """
    pattern = re.compile(TEMPORARY)
    removed = 0
    for root, _, files in os.walk(out):
        for name in files:
            if not pattern.fullmatch(name) or not name.endswith((f".tmp{suffix}", ".tmp.json")):
                continue
            result = f"{name[1:].rsplit('.', 3)[0]}{suffix}"
            if outputs is None or Path(root, result).relative_to(out).as_posix() in outputs:
                Path(root, name).unlink(missing_ok=True)
                removed += 1
    return removed
