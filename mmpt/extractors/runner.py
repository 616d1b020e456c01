"""Extract features for a folder of sources: resumable, with a manifest.

Worker processes decode (and, for poses, do all the work). A network, if any, runs in this process on the
windows of all clips. Only this process renames results into place, so partial files never appear.
"""

import logging
import os
import queue
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.extractors.base import Extractor, NetworkRunner
from mmpt.extractors.manifest import Manifest, read_manifest_of, result_stamp
from mmpt.extractors.sources import Source, find_sources, remove_unfinished
from mmpt.extractors.workers import (
    Failed,
    Finished,
    ReaderInThisProcess,
    ReaderProcess,
    cannot_be_written,
)
from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write
from mmpt.utils.progress import Progress
from mmpt.utils.shards import ShardFolder, Sharding

log = logging.getLogger(__name__)


@dataclass
class Summary:
    """Counts and per-file results of a run."""

    made: int = 0
    kept: int = 0
    """Already finished; not recomputed."""
    skipped: list[str] = field(default_factory=list)
    """Sources for which nothing was written, as an option asked."""
    failed: dict[str, str] = field(default_factory=dict)
    """Source -> error message."""
    noted: dict[str, list[str]] = field(default_factory=dict)
    """Source -> warnings to review."""
    tokens: int = 0
    """Windows that went through a network."""
    seconds: float = 0.0

    def add(self, key: str, record: dict[str, Any]) -> None:
        """List a source that failed, was skipped or has warnings, by its record in the manifest."""
        if record["status"] == "failed":
            self.failed[key] = record["error"]
        if record["status"] == "skipped":
            self.skipped.append(key)
        if record.get("notes"):
            self.noted[key] = record["notes"]


@dataclass
class _Clip:
    source: Source
    finished: Finished | None = None
    tokens: dict[int, np.ndarray] = field(default_factory=dict)
    windows: int = 0


@dataclass(frozen=True)
class RunOptions:
    """How to run an extraction.

    Args:
        workers: reader processes (0: a thread of this process).
        again: recompute everything; if such a run was interrupted, recompute the rest.
        verify: check the hashes of finished sources and results.
        show_progress: show a progress bar or log lines.
        sharding: which sources; or merge the shards.
    """

    workers: int = 1
    again: bool = False
    verify: bool = False
    show_progress: bool = True
    sharding: Sharding = field(default_factory=Sharding)


def extract_folder(
    extractor: Extractor, folder: Path, out: Path, options: RunOptions | None = None
) -> Summary:
    """Extract every source under `folder` whose result is not yet under `out`, or merge its shards.

    Failed sources are listed in the summary. Raises UserError if the run cannot start, or if a shard does not
    have the result of one of its sources.
    """
    started = time.monotonic()
    folder, out, options = Path(folder), Path(out), options or RunOptions()
    sharding = options.sharding
    sources = find_sources(folder, out, extractor.source_suffixes, extractor.suffix)
    if extractor.suffix in extractor.source_suffixes and out.exists() and out.samefile(folder):
        raise UserError(f"--out {out} is --in itself: the results would overwrite the sources.")
    run = (extractor.options(), extractor.tools())  # fail early on missing weights
    read_manifest_of(out, extractor.name)
    of = {"extractor": extractor.name, "in": folder.resolve().name, **run[0]}
    with sharding.locked(out, of, "another extraction") as shards:
        if sharding.merge:
            remove_unfinished(out, extractor.suffix)
            manifest = Manifest(out, extractor.name, *run)
            summary = _merge(manifest, sources, shards, options.verify)
            manifest.refuse_mixture(extractor.same_in_folder)
            manifest.save()
        elif shards:
            [shard] = shards
            manifest = Manifest(shard.path, extractor.name, *run, out)
            own = set(manifest.files)
            manifest.add_all(out, lambda key: key not in own and shard.shard.has(key))
            sources = [source for source in sources if shard.shard.has(source.key)]
            summary = _extract(extractor, manifest, sources, options, shard)
        else:
            summary = _extract(extractor, Manifest(out, extractor.name, *run), sources, options)
    summary.seconds = time.monotonic() - started
    return summary


def _extract(
    extractor: Extractor,
    manifest: Manifest,
    sources: list[Source],
    options: RunOptions,
    shard: ShardFolder | None = None,
) -> Summary:
    """Extract the sources without a finished result."""
    mine = None if shard is None else {source.output for source in sources}
    removed = remove_unfinished(manifest.results, extractor.suffix, mine)
    if removed:
        log.info("%s: removed %d unfinished files of an earlier run", manifest.results, removed)
    _refuse_foreign(manifest, sources)
    keys = [source.key for source in sources]
    manifest.refuse_mixture(extractor.same_in_folder, keys if options.again else (), keys)
    summary = Summary()
    if options.again:
        manifest.mark_for_extraction(keys)
    todo = _outstanding(manifest, sources, summary, options.verify)
    record = None if shard is None else shard.record_progress
    try:
        with Progress(len(todo), options.show_progress, record, summary.kept) as progress:
            if todo:
                _Run(extractor, manifest, summary).all(todo, options.workers, progress)
    finally:
        if todo or shard is not None:
            manifest.save()
    return summary


def _merge(manifest: Manifest, sources: list[Source], shards: list[ShardFolder], verify: bool) -> Summary:
    """Add the records of the shards to the manifest; no file of a result is touched."""
    for folder in shards:
        manifest.add_all(folder.path)
    summary = Summary()
    for source in sources:
        [shard] = [folder.shard for folder in shards if folder.shard.has(source.key)]
        reason = manifest.why_not_finished(source.key, source.path, source.output, verify)
        if reason not in (None, "failed before"):
            raise UserError(
                f"--merge: {source.path} is not finished ({reason}): run the command with --shard {shard}."
            )
        record = manifest.files[source.key]
        summary.made += record["status"] == "done"
        summary.add(source.key, record)
    return summary


def _refuse_foreign(manifest: Manifest, sources: list[Source]) -> None:
    """Raises UserError if a result would replace a file that no extraction into the folder wrote."""
    ours = {record.get("output") for record in manifest.files.values()}
    out = manifest.results
    foreign = [
        source.output
        for source in sources
        if source.output not in ours and os.path.lexists(out / source.output)
    ]
    if foreign:
        more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
        raise UserError(
            f"{out / foreign[0]} exists, but not in {out}/manifest.json{more}: "
            "it was not written by this command. Move it away, or give another folder with --out."
        )


def _outstanding(manifest: Manifest, sources: list[Source], summary: Summary, verify: bool) -> list[Source]:
    """Return the sources without a finished result, count the others, log the reasons."""
    todo, reasons = [], dict[str, int]()
    for source in sources:
        try:
            reason = manifest.why_not_finished(source.key, source.path, source.output, verify)
        except OSError:  # the reader reports it
            reason = "new"
        if reason is not None:
            todo.append(source)
            reasons[reason] = reasons.get(reason, 0) + 1
            continue
        summary.kept += 1
        summary.add(source.key, manifest.files[source.key])
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    why = f" ({counts})" if counts else ""
    log.info("%d sources: %d already finished, %d to extract%s", len(sources), summary.kept, len(todo), why)
    return todo


class _Run:
    """State of one run. Other threads touch only the two queues and the slots."""

    def __init__(self, extractor: Extractor, manifest: Manifest, summary: Summary):
        self.extractor, self.manifest, self.summary = extractor, manifest, summary
        self.out = manifest.results
        self.tasks: queue.SimpleQueue[tuple[int, Source] | None] = queue.SimpleQueue()
        self.events: queue.SimpleQueue[tuple[int, int, Any]] = queue.SimpleQueue()
        """(clip, window number or number of windows, token or Finished or Failed or an exception)."""
        self.clips: dict[int, _Clip] = {}
        self.network: NetworkRunner | None = None
        self.stopped = threading.Event()

    def all(self, todo: list[Source], workers: int, progress: Progress) -> None:
        self.clips = {number: _Clip(source) for number, source in enumerate(todo)}
        for number, source in enumerate(todo):
            self.tasks.put((number, source))
        reader = self.extractor.reader()
        slots: list[ReaderProcess | ReaderInThisProcess] = [ReaderInThisProcess(reader)]
        if workers > 0:
            slots = [ReaderProcess(reader) for _ in range(min(workers, len(todo)))]
        threads = [threading.Thread(target=self._feed, args=(slot,), daemon=True) for slot in slots]
        for _ in slots:
            self.tasks.put(None)
        try:
            self.network = self.extractor.network()
            if self.network is not None:
                self.network.start(lambda key, token: self.events.put((*key, token)))
            for thread in threads:
                thread.start()
            while self.clips:
                if self._handle(*self.events.get()):
                    progress.advance()
                progress.show(self.summary.tokens)
        finally:
            self.stopped.set()
            for slot in slots if self.clips else []:
                slot.kill()
            if self.network is not None:
                self.network.stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(10)

    def _feed(self, slot: ReaderProcess | ReaderInThisProcess) -> None:
        """Thread body: send sources to a reader, windows to the network, the rest to the main thread."""
        try:
            while not self.stopped.is_set() and (task := self.tasks.get()) is not None:
                number, source = task
                windows = 0
                for message in slot.read(source.path, self.out / source.output):
                    if self.stopped.is_set():
                        return
                    if isinstance(message, np.ndarray):
                        assert self.network is not None, "a reader yields windows, but there is no network"
                        self.network.submit((number, windows), message)
                        windows += 1
                    else:
                        self.events.put((number, windows, message))
                    if isinstance(message, UserError):
                        return
        except Exception as error:
            self.events.put((-1, 0, error))
        finally:
            slot.close()

    def _handle(self, number: int, index: int, message: Any) -> bool:
        """Handle one event. Returns whether it completed a clip."""
        if isinstance(message, BaseException):
            raise message
        clip = self.clips.get(number)
        if clip is None:  # a window of a clip that has failed since
            return False
        if isinstance(message, Failed):
            self._fail(clip.source, message)
        else:
            if isinstance(message, Finished):
                clip.finished, clip.windows = message, index
            else:
                clip.tokens[index] = message
                self.summary.tokens += 1
            if clip.finished is None or len(clip.tokens) < clip.windows:
                return False
            self._publish(clip, clip.finished)
        del self.clips[number]
        return True

    def _fail(self, source: Source, failure: Failed) -> None:
        if failure.fault is not None:
            log.error("a bug in the extractor, not a fault of the file:\n%s", failure.fault)
        self._remove_outdated(source)
        record = {"status": "failed", "output": source.output, "error": failure.message}
        self.summary.add(source.key, record)
        self.manifest.add(source.key, record)

    def _remove_outdated(self, source: Source) -> None:
        """Delete the result of an earlier run."""
        if source.key in self.manifest.files:
            (self.out / source.output).unlink(missing_ok=True)

    def _publish(self, clip: _Clip, finished: Finished) -> None:
        """Rename a result into place and record it in the manifest."""
        source, outcome = clip.source, finished.outcome
        target = self.out / source.output
        result = finished.result
        # before the file is renamed, so that the next run knows whose it is if this one is killed
        interrupted = {"status": "failed", "output": source.output, "error": "interrupted"}
        self.manifest.add(source.key, interrupted)
        try:
            if outcome.status == "skipped":
                self._remove_outdated(source)
            elif finished.temporary is not None:
                os.replace(finished.temporary, target)
            else:
                tokens = np.stack([clip.tokens[index] for index in range(clip.windows)])
                with atomic_write(target) as temporary:
                    np.save(temporary, self.extractor.finish(tokens))
                    result = result_stamp(temporary)
        except OSError as error:
            raise cannot_be_written(target, error) from error
        record: dict[str, Any] = {
            "status": outcome.status,
            "output": source.output,
            "source": finished.source,
        }
        record |= {"result": result, "facts": outcome.facts, "notes": outcome.notes}
        self.manifest.add(source.key, record)
        self.summary.made += outcome.status == "done"
        self.summary.add(source.key, record)
