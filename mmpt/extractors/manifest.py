"""`manifest.json` of an output folder: sources, results, options and tool versions of an extraction.

    {"format": 1,
     "extractor": "s3d",
     "runs": {ID: {"options": {...}, "tools": {...}}},
     "files": {"a/b.mp4": {"status": "done", "run": ID, "output": "a/b.npy",
                           "source": {"size": ..., "mtime_ns": ..., "sha256": ...},
                           "result": {"size": ..., "sha256": ...},
                           "facts": {...}, "notes": [...]}}}

It holds no timestamps and is sorted, so the same work gives the same file. During a run, each finished
file adds a line to a journal; if the run is killed, the next run reads it. "again": true marks a file
that is still to be recomputed.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write, parse_json, read_json, sha256
from mmpt.utils.outputs import differing

log = logging.getLogger(__name__)

NAME = "manifest.json"
JOURNAL = ".manifest.journal"
FORMAT = 1


def source_stamp(path: Path) -> dict[str, Any]:
    """Size, modification time and SHA-256 of a source file."""
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256(path)}


def result_stamp(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a result."""
    return {"size": path.stat().st_size, "sha256": sha256(path)}


class Manifest:
    """The manifest of one output folder, open for one run. The caller holds the folder's lock.

    Args:
        folder: the output folder, or the one of a shard.
        extractor: its name. A folder holds the output of one extractor.
        options, tools: of this run (see Extractor).
        results: the output folder, if `folder` is that of a shard.

    Raises UserError when the folder belongs to another extractor or its manifest cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        extractor: str,
        options: dict[str, Any],
        tools: dict[str, str],
        results: Path | None = None,
    ):
        self.folder, self.results = folder, results or folder
        content = read_manifest_of(folder, extractor)
        self.extractor = extractor
        self.runs: dict[str, Any] = content.get("runs", {})
        self.files: dict[str, Any] = content.get("files", {})
        run = {"options": options, "tools": tools}
        self.run = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:12]
        self.runs[self.run] = run
        self._journal: TextIO | None = None
        if (folder / JOURNAL).exists():  # left by a killed run: save its records first
            self.save()

    def add_all(self, folder: Path, chosen: Callable[[str], bool] = lambda key: True) -> None:
        """Add the records of the manifest of another folder, of sources that are `chosen` by their key."""
        content = read_manifest_of(folder, self.extractor)
        self.runs = {**content.get("runs", {}), **self.runs}
        self.files |= {key: record for key, record in content.get("files", {}).items() if chosen(key)}

    def mark_for_extraction(self, keys: Iterable[str]) -> None:
        """Mark sources to be recomputed and save the marks, so that an interrupted run can resume.

        If sources are still marked by an interrupted run, only those stay marked.
        """
        known = [key for key in keys if key in self.files]
        if any(self.files[key].get("again") for key in known):
            return
        for key in known:
            self.files[key] = {**self.files[key], "again": True}
        self.save()

    def refuse_mixture(
        self, names: Iterable[str], redone: Iterable[str] = (), sources: Iterable[str] = ()
    ) -> None:
        """Raises UserError if a finished file, except those `redone`, has other options of `names`.

        For `sources`, whose results this run would replace, all options count.
        """
        ours, redone, sources = self.runs[self.run]["options"], set(redone), set(sources)
        for key, record in self.files.items():
            if record["status"] == "failed" or key in redone or record.get("again"):
                continue
            theirs = self.runs.get(record["run"], {}).get("options", ours)
            replaced = key in sources and (self.results / record["output"]).is_file()
            counted = {*theirs, *ours} if replaced else set(names)
            kept, new = ({k: v for k, v in each.items() if k in counted} for each in (theirs, ours))
            if differ := differing(kept, new):
                raise UserError(
                    f"{self.results}: {key} was extracted with other options ({differ}): give the options of "
                    "that run, another folder with --out, or --again to extract all files again."
                )

    def why_not_finished(self, key: str, source: Path, output: str, verify: bool = False) -> str | None:
        """None if `key` is finished (same options, same source, result present), else the reason.

        A source counts as unchanged if it has the recorded size and modification time and was not replaced
        (its change time) after the result was written. `verify` hashes the source and the result instead.
        """
        record = self.files.get(key)
        if record is None:
            return "new"
        if record.get("again"):
            return "to recompute"
        if record["status"] == "failed":
            return "failed before"
        if self.runs.get(record["run"], {}).get("options") != self.runs[self.run]["options"]:
            return "other options"
        stat, stamp = source.stat(), record["source"]
        same = stat.st_size == stamp["size"]
        result = self.results / output
        replaced = result.is_file() and stat.st_ctime_ns > result.stat().st_ctime_ns
        if same and (verify or replaced or stat.st_mtime_ns != stamp["mtime_ns"]):
            same = sha256(source) == stamp["sha256"]
        if not same:
            return "source changed"
        if record["status"] == "skipped":
            return None
        there = record["output"] == output and result.is_file()
        if not there or result.stat().st_size != record["result"]["size"]:
            return "result missing or changed"
        if verify and sha256(result) != record["result"]["sha256"]:
            return "result missing or changed"
        return None

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Record one source and append it to the journal."""
        self.files[key] = {"run": self.run, **record}
        if self._journal is None:
            head = {"extractor": self.extractor, "run": self.run, **self.runs[self.run]}
            journal = self.folder / JOURNAL
            self._journal = journal.open("w", encoding="utf-8", errors="surrogateescape")
            self._journal.write(json.dumps(head, ensure_ascii=False) + "\n")
        self._journal.write(json.dumps({"file": key, "record": self.files[key]}, ensure_ascii=False) + "\n")
        self._journal.flush()

    def save(self) -> None:
        """Write manifest.json atomically and delete the journal."""
        used = {record["run"] for record in self.files.values()} or {self.run}
        content = {
            "format": FORMAT,
            "extractor": self.extractor,
            "runs": {run: self.runs[run] for run in sorted(used) if run in self.runs},
            "files": dict(sorted(self.files.items())),
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        with atomic_write(self.folder / NAME) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        (self.folder / JOURNAL).unlink(missing_ok=True)


def read_manifest_of(folder: Path, extractor: str) -> dict[str, Any]:
    """As read_manifest. Raises UserError if the folder holds the output of another extractor."""
    content = read_manifest(folder)
    if content.get("extractor", extractor) != extractor:
        raise UserError(
            f"{folder} holds the output of the extractor {content['extractor']!r}; give {extractor!r} "
            f"another folder with --out."
        )
    return content


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a feature folder, including a killed run's journal; {} if there is none.

    Raises UserError if it cannot be read.
    """
    folder = Path(folder)
    path = folder / NAME
    content: dict[str, Any] = {}
    if path.is_file():
        try:
            content = read_json(path, errors="surrogateescape")
            valid = content["format"] == FORMAT and {"extractor", "runs", "files"} <= content.keys()
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is not a readable manifest ({error}): move it away.") from error
        if not valid:
            raise UserError(f"{path} is not a feature manifest of format {FORMAT}: move it away.")
    with contextlib.suppress(FileNotFoundError):
        lines = (folder / JOURNAL).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        _add_journal(content, lines)
    return content


def _add_journal(content: dict[str, Any], lines: list[str]) -> None:
    """Add a journal's records. The last line may be half written."""
    for line in lines:
        try:
            entry = parse_json(line)
        except ValueError:
            break
        if "file" in entry:
            content["files"][entry["file"]] = entry["record"]
        else:
            content.setdefault("format", FORMAT)
            content.setdefault("extractor", entry["extractor"])
            content.setdefault("files", {})
            run = {"options": entry["options"], "tools": entry["tools"]}
            content.setdefault("runs", {})[entry["run"]] = run


def trial_weights(folder: str | os.PathLike[str]) -> str | None:
    """`random:SEED` if features in the folder come from a network with random weights, else None.

    Reads the manifest of the folder, or of the nearest parent that has one. A folder without a manifest
    counts as real features.
    """
    folder = Path(folder).resolve()
    content, root = read_manifest(folder), folder
    for parent in folder.parents:
        if content:
            break
        with contextlib.suppress(UserError, OSError):  # a manifest of something else
            content, root = read_manifest(parent), parent
    inside = folder.relative_to(root)
    for key, record in content.get("files", {}).items():
        weights = content["runs"].get(record["run"], {}).get("options", {}).get("weights", "")
        if str(weights).startswith("random:") and Path(key).is_relative_to(inside):
            return str(weights)
    return None
