"""Embed many clips into a folder, resumable. Worker processes read, this process embeds."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from mmpt.embedding.clip_loader import ClipJob, ClipLoader, Windows
from mmpt.embedding.embedder import SignCLIP
from mmpt.embedding.parts import Parts, PartsKey, Portion, may_pass, parts_key
from mmpt.embedding.storage import (
    FINGERPRINT,
    EmbeddingSet,
    made_of,
    read_if_current,
    save_embedding_set,
)
from mmpt.utils.errors import UserError
from mmpt.utils.files import check_name, remove_leftovers
from mmpt.utils.output_kinds import EMBEDDINGS
from mmpt.utils.outputs import check_output
from mmpt.utils.parallel import ordered_map
from mmpt.utils.progress import Progress
from mmpt.utils.shards import FOLDER as SHARDS
from mmpt.utils.shards import ShardFolder, Sharding

PARTS = "parts"
_CLIPS_PER_READ = 16
"""Clips per task of a worker."""


@dataclass(frozen=True)
class EmbedOptions:
    """How to run an embedding.

    Args:
        workers: processes that read clips (0: this process reads).
        portion: clips between two saves; a resumed run needs the same value.
        file_format: npy or parquet.
        show_progress: show a progress bar or log lines.
        force: replace embeddings of another model, source or options.
        sharding: which portions, in turn; or merge the shards.
    """

    workers: int = 0
    portion: int = 512
    file_format: str = "npy"
    show_progress: bool = True
    force: bool = False
    sharding: Sharding = field(default_factory=Sharding)

    def clips(self, count: int) -> int:
        """How many of `count` clips this run embeds."""
        shard = self.sharding.shard
        return sum(shard is None or shard.has_number(n // self.portion) for n in range(count))


def embed_clips(
    model: SignCLIP,
    jobs: Sequence[ClipJob],
    out: Path,
    about: dict[str, Any],
    windows: Windows | None = None,
    options: EmbedOptions | None = None,
) -> EmbeddingSet:
    """Embed clips into the folder `out` and return its content, or a shard's. Resumes an interrupted run.

    A folder that is complete, and was made from the same files with the same `about`, is left unchanged.
    Clips that failed by an error of the system, such as missing permission, are tried again. Portions do not
    depend on the number of shards, so the merged result is that of one run.
    about: provenance of model, source and options. windows: embed sliding windows of each clip. Raises
    UserError if another run holds the folder, it holds embeddings of another model, source or options, a file
    name is not UTF-8, or no clip could be embedded.
    """
    options = options or EmbedOptions()
    for job in jobs:
        check_name(job.path)
    key = parts_key(jobs, windows, {**about, "model": model.fingerprint}, options.portion)
    of = made_of(about, model.fingerprint)
    sharding = options.sharding
    shard_of = {**of, "portion": options.portion, "clips": len(jobs), "files": key[:16]}
    if sharding.merge and not (out / SHARDS).is_dir():  # a merge that was killed when it was complete
        done = read_if_current(out, key, options.file_format)
        if done is not None:
            done.reused = len(jobs)
            return done
    with sharding.locked(out, shard_of, "another embedding") as shards:
        if sharding.shard is None:
            remove_leftovers(out)
        done = read_if_current(out, key, options.file_format)
        if done is not None and not may_pass(done.failed):
            done.reused = len(jobs)
            return done
        check_output(out, EMBEDDINGS, of, options.force)
        folders = [shard.path / PARTS for shard in shards] or [out / PARTS]
        parts = Parts(folders, jobs, options.portion, sharding.shard)
        if sharding.merge:
            _refuse_missing(parts, shards)
        else:
            parts.prepare(PartsKey(key, of, options.force))
            _embed_missing(model, parts, model.clip_loader(windows), options, *shards)
        made = parts.gather(windowed=windows is not None)
        if sharding.shard is not None:
            return made
        if not made.ids:
            if not sharding.merge:
                parts.remove()
            raise UserError(
                f"none of {len(jobs)} clips could be embedded; the first: {next(iter(made.failed.values()))}"
            )
        about = {**about, FINGERPRINT: model.fingerprint, "key": key}
        save_embedding_set(out, made, about, options.file_format, options.force)
        if not sharding.merge:
            parts.finish(made.failed)
    return made


def _refuse_missing(parts: Parts, shards: Sequence[ShardFolder]) -> None:
    """Raises UserError if a shard has lost parts since it was finished."""
    for start in parts.missing:
        shard = shards[start // parts.portion % len(shards)].shard
        raise UserError(
            f"--merge: shard {shard} has no embeddings of {parts.jobs[start].path} and the clips after it: "
            f"run the command with --shard {shard}."
        )


def _embed_missing(
    model: SignCLIP, parts: Parts, loader: ClipLoader, options: EmbedOptions, shard: ShardFolder | None = None
) -> None:
    """Embed the missing parts; while one is computed, the clips of the next are read."""
    if shard is not None:
        parts.retry()
    reads = [
        parts.jobs[first : min(first + _CLIPS_PER_READ, start + parts.count(start))]
        for start in parts.missing
        for first in range(start, start + parts.count(start), _CLIPS_PER_READ)
    ]
    workers = options.workers
    ahead = max(4, options.portion // _CLIPS_PER_READ // max(workers, 1))
    results = chain.from_iterable(ordered_map(loader.read_all, reads, workers, chunk=1, ahead=ahead))
    todo = parts.todo()
    total = sum(map(parts.count, parts.missing))
    record = None if shard is None else shard.record_progress
    before = sum(map(parts.count, parts.starts)) - total
    shown = Progress(total, options.show_progress, record, before)
    with shown as progress, ThreadPoolExecutor(1) as thread:

        def read() -> Portion | None:
            portion = next(todo, None)
            if portion is not None:
                for number in range(portion.start, portion.start + portion.count):
                    portion.add(number, parts.jobs[number], next(results))
                    progress.advance()
                    progress.show(0)
            return portion

        portion = read()  # before there is another thread, so that processes can be forked
        while portion is not None:
            following = thread.submit(read)
            vectors = model.embed_prepared([piece.frames for piece in portion.pieces])
            parts.save(portion, portion.fail_non_finite(parts.jobs, vectors))
            portion = following.result()
