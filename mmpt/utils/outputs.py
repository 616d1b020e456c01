"""Folders that commands write: which of their files are ours, and how they are replaced.

Each kind of output has a record, a JSON file in the folder with the keys "format" (of the kind), "of" (what
the output was made of) and "files" (relative name -> SHA-256). A file is ours if the record lists it and it
still has that hash; everything else in the folder is foreign. While files are replaced, a hidden journal
lists the old and the new ones, so that a killed command can be started again.
"""

import contextlib
import fcntl
import fnmatch
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmpt.utils.errors import UserError
from mmpt.utils.files import TEMPORARY, read_json, read_record, sha256, usual_mode, write_json
from mmpt.utils.logging import some_of

FORCE_HELP = "replace output of this command for another model or other settings; never other files"
_LOCK = ".lock"
_FORCE = "or give --force (in Python: force=True) to replace it"


@dataclass(frozen=True)
class OutputKind:
    """One kind of output.

    noun: for messages, such as "an index". record: see the module docstring. names: patterns of the files.
    old_keys: keys of the record before it had a "format". alone: the folder holds nothing else. edited: files
    that people edit, so that check_files does not compare them. option: the one that names the folder.
    """

    noun: str
    format: str
    record: str
    names: tuple[str, ...]
    old_keys: tuple[str, ...] = ()
    alone: bool = False
    edited: tuple[str, ...] = ()
    option: str = "--out"

    @property
    def journal(self) -> str:
        """Name of the journal."""
        return f".{self.record.removeprefix('.')}.journal"

    def writes(self, name: str) -> bool:
        """Whether a file of this name belongs to the output."""
        return name == self.record or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)


def real_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder that `folder` names, behind symbolic links. Raises UserError if it cannot be one."""
    try:
        real = Path(folder).resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{folder} cannot be written to ({error}): give another folder.") from error
    if os.path.lexists(real) and not real.is_dir():
        raise UserError(f"{folder} is a file; a folder was expected.")
    return real


def check_output(
    folder: str | os.PathLike[str],
    kind: OutputKind,
    of: Mapping[str, Any] | None = None,
    force: bool = False,
    names: Iterable[str] = (),
) -> None:
    """Raises UserError if an output of `kind` may not be written to `folder`.

    That is, if it would replace a foreign file, or, without `force`, a file of ours that was changed or is of
    something else than `of`. A kind that is `alone` needs a folder without foreign files, unless `force`.
    names: the files to be written, if they are known already.
    """
    real = real_folder(folder)
    if real.is_dir():
        with _alone(real):
            _check_folder(folder, real, kind, of, force, names)


def _check_folder(
    folder: str | os.PathLike[str],
    real: Path,
    kind: OutputKind,
    of: Mapping[str, Any] | None,
    force: bool,
    names: Iterable[str],
) -> None:
    owned, written = _owned(real, kind), {PurePosixPath(name) for name in names}
    elsewhere = f"give another folder with {kind.option}"
    around = {folder for path in written for folder in path.parents}
    for name in _entries(real, kind):
        place = PurePosixPath(name)
        same = place in written or place in around or not written.isdisjoint(place.parents)
        conflict = kind.writes(name) or same
        if name not in owned and (conflict or (kind.alone and not force)):
            keep = "" if conflict else ", or --force (in Python: force=True), which leaves it where it is"
            raise UserError(
                f"{folder} holds {name!r}, which does not belong to {kind.noun} written by this command: "
                f"{elsewhere}{keep}."
            )
    if force:
        return
    record = _record(real, kind)
    there = {name: hashes for name, hashes in owned.items() if os.path.lexists(real / name)}
    if None in there.values():
        raise UserError(
            f"{folder} holds {kind.noun} of an older version, without a list of its files: "
            f"{elsewhere}, {_FORCE}."
        )
    if record and (what := differing(record.get("of") or {}, of or {})):
        raise UserError(f"{folder} holds {kind.noun} of something else ({what}): {elsewhere}, {_FORCE}.")
    for name, hashes in there.items():
        if not _unchanged(real / name, hashes):
            raise UserError(f"{folder}: {name} was changed after it was written: {elsewhere}, {_FORCE}.")


@contextlib.contextmanager
def replace_output(
    folder: str | os.PathLike[str],
    kind: OutputKind,
    of: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Iterator[Path]:
    """Yield a temporary folder; when the block succeeds, its files replace the output in `folder`.

    After an error the folder is as it was and nothing temporary is left. Files of the old output that the new
    one does not have are deleted, if they were not changed; foreign files stay. The record is completed.
    Raises UserError as check_output.
    """
    target = real_folder(folder)
    check_output(folder, kind, of, force)
    with _temporary_folder(target) as fresh:
        yield fresh
        hashes = _sealed(fresh, kind, of or {})
        if not target.is_dir():
            try:
                fresh.rename(target)
                return
            except OSError:
                if not target.is_dir():  # else another process has made it meanwhile
                    raise
        with _alone(target):
            _check_folder(folder, target, kind, of, force, hashes)
            _move_in(fresh, target, kind, hashes)


def check_file(path: Path, ours: Callable[[Path], bool]) -> None:
    """Raises UserError if an output of one file would replace a link, or a file that is not ours.

    ours: whether an existing file was written by this command; it may raise OSError and ValueError.
    """
    if not os.path.lexists(path):
        return
    with contextlib.suppress(OSError, ValueError):
        if path.is_file() and not path.is_symlink() and ours(path):
            return
    raise UserError(f"--out {path} exists and was not written by this command: give another file.")


def check_files(folder: Path, kind: OutputKind, names: Iterable[str] | None = None) -> None:
    """Raises UserError if files (all, or `names`) are missing or differ from the hashes in their record.

    Records of older versions have no hashes: nothing is compared.
    """
    listed = _listed(_record(folder, kind), folder / kind.record)
    for name in listed.keys() - set(kind.edited) if names is None else listed.keys() & set(names):
        try:
            same = sha256(folder / name) in listed[name]
        except OSError as error:
            raise UserError(f"{folder / name}: cannot be read ({error.strerror or error}).") from error
        if not same:
            raise UserError(
                f"{folder / name} was changed after {kind.record} was written: it does not have the hash "
                "recorded there. Restore it, or create the folder again."
            )


def _record(folder: Path, kind: OutputKind) -> dict[str, Any]:
    """The record of an output in `folder`; {} if there is none of this kind."""
    path = folder / kind.record
    tree = {} if path.is_symlink() else read_record(path)
    old = "format" not in tree and kind.old_keys and all(key in tree for key in kind.old_keys)
    return tree if old or tree.get("format") == kind.format else {}


def _listed(record: dict[str, Any], source: Path) -> dict[str, set[str]]:
    """Relative name -> hashes. Names that lead out of the folder are left out.

    Raises UserError, with the file that the record comes from, for a name that no file can have.
    """
    files = record.get("files")
    found: dict[str, set[str]] = {}
    for name, hashes in files.items() if isinstance(files, dict) else ():
        if "\0" in name or name != name.encode(errors="replace").decode():
            raise UserError(f"{source} lists {name!r}, which is no name of a file: create the folder again.")
        path = PurePosixPath(name)
        if path.parts and not path.is_absolute() and ".." not in path.parts:
            known = hashes if isinstance(hashes, list) else [hashes]
            found[str(path)] = {value for value in known if isinstance(value, str)}
    return found


def _owned(folder: Path, kind: OutputKind) -> dict[str, set[str] | None]:
    """Files that we wrote -> the hashes that they may have; None if they were not recorded."""
    record = _record(folder, kind)
    owned: dict[str, set[str] | None] = dict(_listed(record, folder / kind.record))
    old = bool(record) and "files" not in record  # of an older version
    if old:
        owned = {name: None for name in _entries(folder, kind) if kind.writes(name)}
    journal = read_record(folder / kind.journal)
    if journal.get("format") == kind.format:
        for name, hashes in _listed(journal, folder / kind.journal).items():
            owned[name] = hashes | (owned.get(name) or set())
        owned.setdefault(kind.record, set())
    if record and not old:
        owned[kind.record] = set()
    return owned


def _entries(folder: Path, kind: OutputKind) -> Iterator[str]:
    """Relative names of the files, links and empty folders, without locks and temporary folders."""
    for root, folders, files in os.walk(folder):
        at = Path(root).relative_to(folder)
        if at == Path():
            folders[:] = [name for name in folders if not _is_temporary(name, folder)]
            ours = (_LOCK, kind.journal)
            files = [name for name in files if name not in ours and not _is_half_journal(name, kind)]
        links = [name for name in folders if Path(root, name).is_symlink()]
        yield from ((at / name).as_posix() for name in sorted([*files, *links]))
        if at != Path() and not files and not folders:
            yield at.as_posix()


def _unchanged(path: Path, hashes: set[str] | None) -> bool:
    """Whether a file of ours is as it was written. hashes: empty for the record, which has none."""
    if path.resolve() != path or not path.is_file() or hashes is None:  # a link is not ours
        return False
    return not hashes or sha256(path) in hashes


def differing(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The keys with different values, with both, of mappings the names; "" if there are none."""

    def value(of: Mapping[str, Any], key: str) -> Any:
        return "none" if of.get(key) is None else of[key]

    return ", ".join(
        f"{key}: {some_of(_different(there[key], now[key]))} differ"
        if isinstance(there.get(key), Mapping) and isinstance(now.get(key), Mapping)
        else f"{key}: {value(there, key)} there, {value(now, key)} now"
        for key in _different(there, now)
    )


def _different(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*now, *there]) if there.get(key) != now.get(key)]


def _sealed(fresh: Path, kind: OutputKind, of: Mapping[str, Any]) -> dict[str, str]:
    """Complete the record of the new files, and flush all to disk. Returns their hashes by name."""
    record: dict[str, Any] = {}
    if (fresh / kind.record).is_file():
        record = read_json(fresh / kind.record)
        (fresh / kind.record).unlink()
    hashes = {name: sha256(fresh / name) for name in _entries(fresh, kind)}
    write_json(fresh / kind.record, {"format": kind.format, **record, "of": dict(of), "files": hashes})
    for name in [*hashes, kind.record]:
        (fresh / name).chmod(usual_mode(0o666))  # some writers create private files
        with open(fresh / name, "rb") as file:
            os.fsync(file.fileno())
    fresh.chmod(usual_mode(0o777))  # mkdtemp creates private folders
    return hashes


def _move_in(fresh: Path, target: Path, kind: OutputKind, hashes: dict[str, str]) -> None:
    """Replace the files of an output one by one; the record is missing meanwhile."""
    owned = _owned(target, kind)
    known = {name: sorted({*(owned.get(name) or ()), hashes[name]}) for name in hashes}
    for name, old in owned.items():
        known.setdefault(name, sorted(old or ()))
    known.pop(kind.record, None)
    write_json(target / kind.journal, {"format": kind.format, "files": known})
    (target / kind.record).unlink(missing_ok=True)
    for name in [*hashes, kind.record]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(fresh / name, target / name)
    for name, old in owned.items():
        stale = name not in hashes and name != kind.record
        if stale and (old is None or _unchanged(target / name, old)):
            (target / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it holds something else, or is the target
                (target / name).parent.rmdir()
    (target / kind.journal).unlink()
    for path in target.iterdir():
        if _is_half_journal(path.name, kind):
            path.unlink(missing_ok=True)


def _is_half_journal(name: str, kind: OutputKind) -> bool:
    """Whether a file is a journal that a killed command had not finished."""
    return name.startswith(f".{Path(kind.journal).stem}.") and bool(re.fullmatch(TEMPORARY, name))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for another process that replaces files in `folder`, and keep others from it.

    Locks the folder itself: filelock would add a file to it. Where the file system has no locks, nothing is
    waited for.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_temporary(name: str, target: Path) -> bool:
    return name.startswith(_prefix(target)) and name.endswith(".tmp")


def _prefix(target: Path) -> str:
    """Prefix of temporary folders. With "mmpt", so that folders of other programs do not match."""
    return f".{target.name}.mmpt-"


@contextlib.contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """A locked temporary folder in `target`, or beside it if it does not exist.

    Leftovers of killed commands, whose lock is free, are deleted.
    """
    inside = target.is_dir()
    (target if inside else target.parent).mkdir(parents=True, exist_ok=True)
    for place in (target, target.parent):
        with contextlib.suppress(OSError):  # such as: may not be listed
            for leftover in [path for path in place.iterdir() if _is_temporary(path.name, target)]:
                _remove_if_dead(leftover)
    fresh, lock = None, None
    while lock is None:  # another process may take the new folder for a leftover before it is locked
        place = target if inside else target.parent
        fresh = Path(tempfile.mkdtemp(prefix=_prefix(target), suffix=".tmp", dir=place))
        lock = _locked(fresh)
    assert fresh is not None
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        os.close(lock)


def _locked(folder: Path) -> int | None:
    """A file descriptor that holds the lock on a folder; None if another process holds it or it is gone.

    Where the file system has no locks, the folder is not locked.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        return descriptor
    if folder.is_dir():
        return descriptor
    os.close(descriptor)
    return None


def _remove_if_dead(leftover: Path) -> None:
    """Delete a temporary folder that no running process holds."""
    if leftover.is_symlink() or not leftover.is_dir():
        return
    descriptor = os.open(leftover, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # it is in use, or the file system has no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(leftover)
    finally:
        os.close(descriptor)
