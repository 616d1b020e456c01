"""The landmarks that a corpus publishes as `.pose` files; an interrupted conversion resumes.

The folder has a manifest, as those of `signclip extract` (manifest.py): a pose is replaced only if its hash
is the recorded one.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmpt.extractors.manifest import Manifest, source_stamp
from mmpt.pose.writer import shows_somebody, write_once
from mmpt.utils.errors import UserError
from mmpt.utils.files import file_in, sha256
from mmpt.utils.lock import folder_lock
from mmpt.utils.logging import some_of
from mmpt.utils.parallel import ordered_map
from mmpt.utils.text import counted

Convert = Callable[[Path], bytes]
"""Source -> content of a `.pose` file. Picklable; raises UserError, which names the file."""
_Job = tuple[Convert, Path, Path, Mapping[str, Any]]

log = logging.getLogger(__name__)


def convert_poses(
    folder: Path,
    script: str,
    options: Mapping[str, float],
    sources: Mapping[str, Path],
    convert: Convert,
    workers: int = 0,
) -> set[str]:
    """Convert each source to NAME.pose in `folder`. Returns the names of those that show nobody.

    These are not written, which is a warning. A pose that is there stays if its source gave it, and is
    replaced if the source has changed. Raises UserError for another file, for poses of other `options`, and
    for a name that leads out of the folder.
    """
    if not sources:
        return set()
    targets = {name: file_in(folder, f"{name}.pose") for name in sources}
    with folder_lock(folder, "another import"):
        manifest = Manifest(folder, script, dict(options), {})
        for run in manifest.runs.values():
            if run["options"] != options:
                raise UserError(
                    f"{folder} is of an earlier run with {_words(run['options'])}, but this run has "
                    f"{_words(options)}: give another --out, or remove {folder}."
                )
        jobs = [(convert, sources[name], targets[name], manifest.files.get(name, {})) for name in sources]
        try:
            results = zip(sources, ordered_map(_converted, jobs, workers), strict=True)
            for number, (name, record) in enumerate(results, start=1):
                if record:
                    manifest.add(name, {**record, "output": f"{name}.pose"})
                if number % 5000 == 0:
                    log.info("%d of %d clips converted", number, len(sources))
        finally:
            if manifest.files:
                manifest.save()
    nobody = [name for name in sources if manifest.files[name]["status"] == "skipped"]
    if nobody:
        shown = counted(len(nobody), "clip shows nobody and is", "clips show nobody and are")
        log.warning("%s left out (%s)", shown, some_of(nobody))
    return {*nobody}


def _converted(job: _Job) -> dict[str, Any] | None:
    """Write a pose. Returns its record for the manifest; None if it is there, as recorded."""
    convert, source, target, old = job
    try:
        stamp = source_stamp(source)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror or error}).") from error
    known = old["result"]["sha256"] if old.get("status") == "done" else None
    there = old.get("status") == "skipped" or (target.is_file() and sha256(target) == known)
    if there and old and old["source"]["sha256"] == stamp["sha256"]:
        return None
    content = convert(source)
    try:
        if not shows_somebody(content):
            if known is not None and target.is_file() and sha256(target) == known:
                target.unlink()  # of the source before it was corrected
            return {"status": "skipped", "source": stamp}
    except UserError as error:
        raise UserError(f"{source}: as a .pose file: {error}") from error
    write_once(target, content, known)
    return {
        "status": "done",
        "source": stamp,
        "result": {"size": len(content), "sha256": sha256(target)},
    }


def _words(options: Mapping[str, float]) -> str:
    return " ".join(f"--{name} {value:g}" for name, value in options.items())
