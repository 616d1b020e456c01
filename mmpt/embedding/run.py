"""Thousands of clips or prompts -> a folder of embeddings: saved portion by portion, taken up after a kill.

    embeddings.npy    float32 [N, D], or embeddings.parquet with ids and vectors
    ids.csv           what each row is: id, path, and start_ms, end_ms of windows
    provenance.json   model and its hash, options, source, what could not be read

Portions and batches depend on the jobs alone, so that a run which was killed and started again ends with the
bytes of one that was not. Until the end, portions lie in `parts`.
"""

import csv
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt import __version__
from mmpt.embedding.clip_reader import ClipJob, ClipReader, Piece
from mmpt.models.fingerprint import model_fingerprint
from mmpt.models.folder import CONFIG_FILE, WEIGHTS_FILE
from mmpt.processors.table_file import parquet_module
from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write, read_json, remove_leftovers, sha256, write_json
from mmpt.utils.lock import folder_lock
from mmpt.utils.parallel import cores, ordered_map
from mmpt.utils.progress import Progress

log = logging.getLogger(__name__)

FORMATS = ("npy", "parquet")
PARTS, EMBEDDINGS, IDS, PROVENANCE = "parts", "embeddings", "ids.csv", "provenance.json"
FINGERPRINT = "model_fingerprint"
"""In the provenance: which model made the vectors, as a search index compares it."""
_PARTS_FORMAT = 2
_TOGETHER = 16
"""Clips that a reader takes at a time."""


@dataclass
class EmbeddingSet:
    """Embeddings float32 [N, D] with what each row is; failed: id -> why there is none."""

    vectors: NDArray[np.float32]
    ids: list[dict[str, str]]
    failed: dict[str, str] = field(default_factory=dict)
    reused: int = 0
    """Clips that an earlier run had embedded."""
    cut: int = 0
    """Rows whose clip, or window, has more frames than the model reads."""


def model_hash(folder: Path) -> str:
    """Hex SHA-256 over a model folder's weights and config."""
    digest = hashlib.sha256()
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        digest.update(sha256(folder / name).encode())
    return digest.hexdigest()


def embed_clips(
    model: Any,
    jobs: Sequence[ClipJob],
    reader: ClipReader,
    out: Path,
    about: dict[str, Any],
    *,
    workers: int = 0,
    portion: int = 512,
    file_format: str = "npy",
    show_progress: bool = True,
) -> EmbeddingSet:
    """Embed `jobs` into the folder `out`, and return what is in it.

    model: a SignCLIP. about: what the provenance says of model, source and options; a folder that was made
    by the same, of the same files, is left as it is. workers: processes that read. portion: clips between two
    savings. Raises UserError if another run holds the folder, a file's name is not UTF-8, or nothing could be
    read.
    """
    for job in jobs:
        check_name(job.path)
    key = _key(jobs, reader, about, portion)
    with folder_lock(out, "another embedding"):
        remove_leftovers(out)
        if (done := _finished(out, key, file_format)) is not None:
            done.reused = len(jobs)
            return done
        parts = out / PARTS
        _start(parts, key)
        starts = range(0, len(jobs), portion)
        todo = [start for start in starts if not _part(parts, start).is_file()]
        with Progress(sum(len(jobs[s : s + portion]) for s in todo), show_progress) as progress:
            _embed_portions(model, jobs, reader, parts, todo, portion, workers, progress)
        made = _gather(jobs, [_part(parts, start) for start in starts], reader.windows is not None)
        made.reused = sum(len(jobs[s : s + portion]) for s in starts if s not in todo)
        if not made.ids:
            shutil.rmtree(parts)
            raise UserError(
                f"none of {len(jobs)} clips could be read; the first: {next(iter(made.failed.values()))}"
            )
        fingerprint = model_fingerprint(model.model)
        save_embeddings(out, made, {**about, FINGERPRINT: fingerprint, "key": key}, file_format)
        shutil.rmtree(parts)
    return made


def check_name(path: str | Path) -> None:
    """Raises UserError for a path that is not UTF-8: it could not be written into ids and provenance."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{str(path)!r}: its name is not UTF-8: rename it.") from error


def save_embeddings(out: Path, made: EmbeddingSet, about: dict[str, Any], file_format: str) -> None:
    """Write embeddings, ids and, last, the provenance, which names both files and their hashes. Embeddings of
    another format, of an earlier run, are deleted: they are not what ids and provenance tell of."""
    vectors = out / f"{EMBEDDINGS}.{file_format}"
    if file_format == "parquet":
        import pyarrow

        parquet = parquet_module()
        dim = made.vectors.shape[1]
        columns: dict[str, Any] = {name: [row[name] for row in made.ids] for name in made.ids[0]}
        columns["embedding"] = pyarrow.FixedSizeListArray.from_arrays(made.vectors.ravel(), dim)
        with atomic_write(vectors) as temporary:
            parquet.write_table(pyarrow.table(columns), temporary)
    else:
        with atomic_write(vectors) as temporary:
            np.save(temporary, made.vectors)
    with atomic_write(out / IDS) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(made.ids[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(made.ids)
    counts = {
        "count": len(made.ids),
        "dim": int(made.vectors.shape[1]),
        "cut": made.cut,
        "failed": made.failed,
    }
    files = {path.name: sha256(path) for path in (vectors, out / IDS)}
    write_json(out / PROVENANCE, {"mmpt_version": __version__, **about, **counts, "files": files})
    for other in FORMATS:
        if other != file_format:
            (out / f"{EMBEDDINGS}.{other}").unlink(missing_ok=True)


def read_embeddings(folder: Path) -> EmbeddingSet:
    """What save_embeddings wrote. Raises UserError if it is not there or not whole."""
    try:
        about = read_json(folder / PROVENANCE)
        with open(folder / IDS, encoding="utf-8", newline="") as file:
            ids = list(csv.DictReader(file))
        formats = [name for name in FORMATS if f"{EMBEDDINGS}.{name}" in about.get("files", {})]
        if "npy" in formats or (not formats and (folder / f"{EMBEDDINGS}.npy").is_file()):
            vectors = np.load(folder / f"{EMBEDDINGS}.npy", allow_pickle=False)
        else:
            column = parquet_module().read_table(folder / f"{EMBEDDINGS}.parquet")["embedding"]
            flat = column.combine_chunks().flatten().to_numpy()
            vectors = flat.reshape(len(ids), about["dim"]).astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder}: not a folder of embeddings ({error}); make it with mmpt.cli.embed."
        ) from error
    if vectors.shape != (len(ids), about.get("dim")):
        raise UserError(f"{folder}: {len(ids)} ids, but embeddings of shape {list(vectors.shape)}.")
    return EmbeddingSet(vectors, ids, about.get("failed", {}), cut=about.get("cut", 0))


def _embed_portions(
    model: Any,
    jobs: Sequence[ClipJob],
    reader: ClipReader,
    parts: Path,
    todo: list[int],
    portion: int,
    workers: int,
    progress: Progress,
) -> None:
    """Read ahead in other processes while this one embeds."""
    together = [
        jobs[first : min(first + _TOGETHER, start + portion)]
        for start in todo
        for first in range(start, min(start + portion, len(jobs)), _TOGETHER)
    ]
    ahead = max(4, portion // _TOGETHER // max(workers, 1))
    with _threads_beside(workers):
        results = chain.from_iterable(ordered_map(reader.read_all, together, workers, chunk=1, ahead=ahead))
        for start in todo:
            pieces: list[Piece] = []
            owners: list[int] = []
            failed: dict[str, str] = {}
            for number, result in enumerate(islice(results, len(jobs[start : start + portion])), start):
                if isinstance(result, str):
                    failed[jobs[number].id] = result
                else:
                    pieces += result
                    owners += [number] * len(result)
                progress.advance()
                progress.show(0)
            vectors = model.embed_video_features([piece.frames for piece in pieces])
            spans = np.array([[p.start_ms, p.end_ms] for p in pieces], dtype=np.float64).reshape(-1, 2)
            cut = np.array([piece.cut for piece in pieces], bool)
            told = np.frombuffer(json.dumps(failed).encode(), dtype=np.uint8)
            with atomic_write(_part(parts, start)) as temporary:
                owned = np.array(owners, int)
                np.savez(temporary, vectors=vectors, owners=owned, spans=spans, cut=cut, failed=told)


@contextmanager
def _threads_beside(workers: int) -> Iterator[None]:
    """Leave the readers' cores to them: threads that wait for each other on a busy core wait long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, cores() - workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _gather(jobs: Sequence[ClipJob], parts: Sequence[Path], windowed: bool) -> EmbeddingSet:
    vectors, ids, failed, cut = [], [], dict[str, str](), 0
    for path in parts:
        with np.load(path, allow_pickle=False) as part:
            vectors.append(part["vectors"])
            failed |= json.loads(part["failed"].tobytes())
            cut += int(part["cut"].sum())
            for owner, (start, end) in zip(part["owners"], part["spans"]):
                job = jobs[owner]
                row = {"id": job.id, "path": job.listed}
                ids.append(row | ({"start_ms": f"{start:.1f}", "end_ms": f"{end:.1f}"} if windowed else {}))
    return EmbeddingSet(np.concatenate(vectors), ids, failed, cut=cut)


def _key(jobs: Sequence[ClipJob], reader: ClipReader, about: dict[str, Any], portion: int) -> str:
    """Hex digest of all that decides the result: the model, the options, and the files by size and time."""
    digest = hashlib.sha256(
        json.dumps([_PARTS_FORMAT, about, portion, str(reader.windows)], sort_keys=True).encode()
    )
    for job in jobs:
        path = Path(job.path)
        stat = path.stat() if path.is_file() else None
        stamp = None if stat is None else [stat.st_size, stat.st_mtime_ns]
        told = [job.id, job.path, job.listed, repr(job.span), job.mirror, stamp]
        digest.update(json.dumps(told).encode())
    return digest.hexdigest()


def _finished(out: Path, key: str, file_format: str) -> EmbeddingSet | None:
    """What is in `out` if it was made by the same and is whole, else None. A run of other clips that was
    killed may have left its own vectors beside this provenance: hashes tell."""
    try:
        about = read_json(out / PROVENANCE)
        files = about["files"]
        if about["key"] != key or f"{EMBEDDINGS}.{file_format}" not in files:
            return None
        whole = all(sha256(out / name) == known for name, known in files.items())
        return read_embeddings(out) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _start(parts: Path, key: str) -> None:
    """Keep the parts of a run of the same key; throw away those of another."""
    known = parts / "key.txt"
    if parts.is_dir() and (not known.is_file() or known.read_text() != key):
        log.info("%s: parts of a run with other clips, model or options: made anew", parts)
        shutil.rmtree(parts)
    parts.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parts)
    if not known.is_file():
        with atomic_write(known) as temporary:
            temporary.write_text(key)


def _part(parts: Path, start: int) -> Path:
    return parts / f"{start:09d}.npz"
