"""Embed many clips into a folder, resumable. Worker processes read, this process embeds."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from mmpt.embedding.clip_loader import ClipJob, ClipLoader, Windows
from mmpt.embedding.embedder import SignCLIP
from mmpt.embedding.parts import Parts, PartsKey, Portion, may_pass, parts_key
from mmpt.embedding.storage import (
    FINGERPRINT,
    EmbeddingSet,
    check_name,
    made_of,
    read_if_current,
    save_embedding_set,
)
from mmpt.utils.errors import UserError
from mmpt.utils.files import remove_leftovers
from mmpt.utils.lock import folder_lock
from mmpt.utils.output_kinds import EMBEDDINGS
from mmpt.utils.outputs import check_output
from mmpt.utils.parallel import ordered_map
from mmpt.utils.progress import Progress

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
    """

    workers: int = 0
    portion: int = 512
    file_format: str = "npy"
    show_progress: bool = True
    force: bool = False


def embed_clips(
    model: SignCLIP,
    jobs: Sequence[ClipJob],
    out: Path,
    about: dict[str, Any],
    windows: Windows | None = None,
    options: EmbedOptions | None = None,
) -> EmbeddingSet:
    """Embed clips into the folder `out` and return its content. Resumes an interrupted run.

    A folder that is complete, and was made from the same files with the same `about`, is left unchanged.
    Clips that failed by an error of the system, such as missing permission, are tried again.
    about: provenance of model, source and options. windows: embed sliding windows of each clip. Raises
    UserError if another run holds the folder, it holds embeddings of another model, source or options, a file
    name is not UTF-8, or no clip could be embedded.
    """
    options = options or EmbedOptions()
    for job in jobs:
        check_name(job.path)
    key = parts_key(jobs, windows, about, options.portion)
    with folder_lock(out, "another embedding"):
        remove_leftovers(out)
        done = read_if_current(out, key, options.file_format)
        if done is not None and not may_pass(done.failed):
            done.reused = len(jobs)
            return done
        of = made_of(about, model.fingerprint)
        check_output(out, EMBEDDINGS, of, options.force)
        parts = Parts(out / PARTS, PartsKey(key, of, options.force), jobs, options.portion)
        _embed_missing(model, parts, model.clip_loader(windows), options)
        made = parts.gather(windowed=windows is not None)
        if not made.ids:
            parts.remove()
            raise UserError(
                f"none of {len(jobs)} clips could be embedded; the first: {next(iter(made.failed.values()))}"
            )
        about = {**about, FINGERPRINT: model.fingerprint, "key": key}
        save_embedding_set(out, made, about, options.file_format, options.force)
        parts.finish(made.failed)
    return made


def _embed_missing(model: SignCLIP, parts: Parts, loader: ClipLoader, options: EmbedOptions) -> None:
    """Embed the missing parts; while one is computed, the clips of the next are read."""
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
    with Progress(total, options.show_progress) as progress, ThreadPoolExecutor(1) as thread:

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
