"""Shards: one command runs in several processes or jobs, in one output folder, and is then merged.

OUT/.shards/I-of-N/  a folder for each shard: shard.json (what it is of, whether it is finished), progress,
                     a lock, and what the command keeps until the merge

An unsharded run and the merge hold the lock of OUT to their end, and a shard only while it starts. So no
shard starts during either, and an unsharded run refuses a folder with shards.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mmpt import __version__
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json, remove_leftovers, write_json
from mmpt.utils.lock import folder_lock
from mmpt.utils.outputs import differing
from mmpt.utils.text import nfc

FOLDER, RECORD, PROGRESS = ".shards", "shard.json", "progress"
_MERGED = ".shards.merged"
"""The name of the folder while it is deleted."""
_FORMAT = "signclip-shard"
_OURS = re.compile(
    r"\.lock|shard\.json|progress|manifest\.json|\.manifest\.journal|facts\.jsonl"
    r"|parts(/(key\.txt|\d{9}\.npz))?|peaks(/[^/]*\.npz)?|((parts|peaks)/)?\.[^/]*\.tmp(\.[^./]+)?"
)
"""Names of files in the folder of a shard."""
_START = 60.0
"""Seconds that a shard waits for others which start at the same moment."""


@dataclass(frozen=True, order=True)
class Shard:
    """Part `index` (from 1) of `count`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "I/N". Raises UserError unless 1 <= I <= N."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"--shard {text}: expected I/N with 1 <= I <= N, such as 1/4 to 4/4.")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.index}-of-{self.count}"

    def has(self, name: str) -> bool:
        """Whether the source of this name is in the shard: by a hash, so other sources do not matter."""
        digest = hashlib.sha256(nfc(name).encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8]) % self.count == self.index - 1

    def has_number(self, number: int) -> bool:
        """Whether the portion of this number, from 0, is in the shard: in turn."""
        return number % self.count == self.index - 1


@dataclass(frozen=True)
class ShardFolder:
    """The folder of a shard that this process has locked."""

    shard: Shard
    path: Path

    def record_progress(self, done: int, total: int) -> None:
        """Write how far it is, for shard_progress."""
        (self.path / PROGRESS).write_text(f"{done} {total}\n", encoding="utf-8")


@dataclass(frozen=True)
class Sharding:
    """How a command runs: unsharded, one shard, or the merge of all shards."""

    shard: Shard | None = None
    merge: bool = False

    @classmethod
    def chosen(cls, shard: str | None, merge: bool) -> Self:
        """That of --shard and --merge. Raises UserError for both, and for a wrong shard."""
        if shard is not None and merge:
            raise UserError(
                f"--shard {shard} and --merge exclude each other: merge when all shards are done."
            )
        return cls(None if shard is None else Shard.parse(shard), merge)

    @contextlib.contextmanager
    def locked(self, out: Path, of: Mapping[str, Any], who: str) -> Iterator[list[ShardFolder]]:
        """Lock `out` for an unsharded run (yields none), the shard, or all shards for the merge.

        When the block succeeds, the shard is marked as finished, or the merged shards are deleted. of: what
        determines the result, which all shards must share. who: see folder_lock. Raises UserError if another
        run is in the way, or if the shards in `out` do not allow this.
        """
        of = {**of, "mmpt_version": __version__}
        if self.merge:
            with _open_merge(out, of, who) as shards:
                yield shards
        elif self.shard is not None:
            with _open_shard(out, self.shard, of, who) as shard:
                yield [shard]
        else:
            with folder_lock(out, who):
                refuse_shards(out)
                yield []


@contextlib.contextmanager
def _open_shard(out: Path, shard: Shard, of: Mapping[str, Any], who: str) -> Iterator[ShardFolder]:
    """Lock the folder of a shard; when the block succeeds, the shard is finished."""
    path = out / FOLDER / shard.folder
    with contextlib.ExitStack() as held:
        with folder_lock(out, who, _START):
            _remove_merged(out)
            _check_fits(out, shard, of)
            held.enter_context(folder_lock(path, f"shard {shard}"))
            remove_leftovers(path)
            content = {"format": _FORMAT, "of": of, "finished": False}
            write_json(path / RECORD, content)
        try:
            yield ShardFolder(shard, path)
        except UserError:
            _remove_empty(path)
            raise
        write_json(path / RECORD, {**content, "finished": True})


@contextlib.contextmanager
def _open_merge(out: Path, of: Mapping[str, Any], who: str) -> Iterator[list[ShardFolder]]:
    """Lock all shards of `out`, in order; when the block succeeds, delete them."""
    if (out / _MERGED).is_dir():
        _remove_merged(out)
        raise UserError(f"--merge: the shards of {out} are merged already.")
    if not (out / FOLDER).is_dir():
        raise UserError(f"--merge: {out} holds no shards: run the command with --shard I/N first.")
    with contextlib.ExitStack() as held:
        held.enter_context(folder_lock(out, who))
        records = {shard: _record(out, shard) for shard in _shards(out)}
        folders = []
        for shard in _complete(out, records):
            path = out / FOLDER / shard.folder
            held.enter_context(folder_lock(path, f"shard {shard}"))
            _check_files(path)
            _check_same(out, shard, records[shard], of)
            folders.append(ShardFolder(shard, path))
        yield folders
        (out / FOLDER).rename(out / _MERGED)
        _remove_merged(out)


def refuse_shards(out: Path) -> None:
    """Raises UserError if `out`, of an unsharded run, holds shards that are not merged."""
    _remove_merged(out)
    if shards := _shards(out):
        raise UserError(
            f"{out / FOLDER} holds shards of {shards[0].count} that are not merged: run the command with "
            f"--merge, or delete {out / FOLDER}."
        )


def shard_progress(out: Path) -> dict[int, tuple[int, int]]:
    """How far each shard that has started is: index -> (sources done, sources). Reads one line of each."""
    found = {}
    paths = [*out.glob(f"{FOLDER}/*-of-*/{PROGRESS}"), *out.glob(f"*/{FOLDER}/*-of-*/{PROGRESS}")]
    for path in paths:  # evaluate has its shards in OUT/embeddings
        with contextlib.suppress(OSError, ValueError):  # it is being written, or was merged meanwhile
            done, total = map(int, path.read_text(encoding="utf-8").split())
            found[int(path.parent.name.split("-")[0])] = (done, total)
    return dict(sorted(found.items()))


def _shards(out: Path) -> list[Shard]:
    """The shards of `out` that have a folder. Raises UserError if there is anything else."""
    folder = out / FOLDER
    if not folder.is_dir() or folder.is_symlink():
        if os.path.lexists(folder):
            raise UserError(f"{folder} is not a folder of shards: move it away.")
        return []
    shards = []
    for path in folder.iterdir():
        named = re.fullmatch(r"(\d+)-of-(\d+)", path.name, re.ASCII)
        if not named or path.is_symlink() or not path.is_dir():
            raise UserError(f"{path} does not belong to shards of this command: move it away.")
        shards.append(Shard(int(named[1]), int(named[2])))
    return sorted(shards)


def _check_files(path: Path) -> None:
    """Raises UserError if the folder of a shard, which will be deleted, holds files of others."""
    for entry in path.rglob("*"):
        if not _OURS.fullmatch(entry.relative_to(path).as_posix()):
            raise UserError(f"{entry} does not belong to shards of this command: move it away.")


def _record(out: Path, shard: Shard) -> dict[str, Any]:
    """The record of a shard, {} of one that was killed before it had one. Raises UserError."""
    path = out / FOLDER / shard.folder / RECORD
    try:
        content = read_json(path)
        if content["format"] == _FORMAT and isinstance(content["of"], dict):
            return {"of": content["of"], "finished": content["finished"] is True}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError):
        pass
    raise UserError(f"{path} is not the record of a shard: move it away.")


def _check_fits(out: Path, shard: Shard, of: Mapping[str, Any]) -> None:
    """Raises UserError if the shards that are there are of another number or of something else.

    Compares one of them: it was compared with the others. Hundreds of shards may start at once.
    """
    there = _shards(out)
    for other in there:
        if other.count != shard.count:
            raise UserError(
                f"{out / FOLDER} holds shards of {other.count}, not of {shard.count}: give another folder "
                f"with --out (for a config: eval.save_path), or delete {out / FOLDER} to begin again."
            )
    for other in there:
        if record := _record(out, other):
            return _check_same(out, other, record, of)
    return None


def _check_same(out: Path, shard: Shard, record: dict[str, Any], of: Mapping[str, Any]) -> None:
    """Raises UserError if a shard that is there is of something else."""
    if what := differing(record["of"], of):
        raise UserError(
            f"shard {shard} in {out} is of something else ({what}): give another folder with --out (for a "
            f"config: eval.save_path), or delete {out / FOLDER} to begin again."
        )


def _complete(out: Path, records: dict[Shard, dict[str, Any]]) -> list[Shard]:
    """All shards in order. Raises UserError if one is missing or not finished, or if their numbers differ."""
    counts = sorted({shard.count for shard in records})
    if len(counts) != 1:
        held = " and ".join(map(str, counts))
        raise UserError(f"--merge: {out / FOLDER} holds {f'shards of {held}' if held else 'no shards'}.")
    shards = [Shard(index, counts[0]) for index in range(1, counts[0] + 1)]
    for what, lacking in (
        ("has not run", [shard for shard in shards if shard not in records]),
        ("is not finished", [shard for shard in shards if not records.get(shard, {}).get("finished")]),
    ):
        if lacking:
            more = f" (nor have {len(lacking) - 1} others)" if len(lacking) > 1 else ""
            raise UserError(
                f"--merge: shard {lacking[0]} of {out} {what}{more}: run the command with "
                f"--shard {lacking[0]}."
            )
    return shards


def _remove_empty(path: Path) -> None:
    """Delete the folder of a shard that refused to start: it holds nothing."""
    if {entry.name for entry in path.iterdir()} <= {".lock", RECORD}:
        shutil.rmtree(path)
        with contextlib.suppress(OSError):  # other shards are there
            path.parent.rmdir()


def _remove_merged(out: Path) -> None:
    """Delete shards that were merged. Raises UserError if there is anything else."""
    if (out / _MERGED).is_dir() and not (out / _MERGED).is_symlink():
        for path in (out / _MERGED).iterdir():
            _check_files(path)
            if not re.fullmatch(r"\d+-of-\d+", path.name, re.ASCII) or path.is_symlink():
                raise UserError(f"{path} does not belong to shards of this command: move it away.")
        shutil.rmtree(out / _MERGED)
