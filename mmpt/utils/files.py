"""Atomic writes, reading of text and JSON, file hashes."""

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import stat
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

UNREADABLE = "cannot be read"
"""In messages about OS errors, which may not occur again although the file is unchanged."""
TEMPORARY = r"\..*\.[a-z0-9_]{8}\.tmp(\.[^.]+)?"
"""Regular expression of the names of temporary files, as atomic_write makes them."""
_umask_lock = threading.Lock()


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; when the block succeeds, rename it to `path`.

    After an error or a kill, `path` has its old content or does not exist; an error also removes the
    temporary file. Creates the folder if it is missing. The temporary name keeps the suffix of `path`, which
    np.save and matplotlib use.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _rename_in_errors(path):
        descriptor, name = tempfile.mkstemp(
            prefix=_temporary_prefix(path), suffix=f".tmp{path.suffix}", dir=path.parent
        )
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            settle(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def settle(path: Path) -> None:
    """Flush a file to the disk, and give it the permissions of a new one: mkstemp creates private files."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    path.chmod(usual_mode(0o666))


def usual_mode(mode: int) -> int:
    """The permissions of a new file (0o666) or folder (0o777) of this process, by its umask."""
    with contextlib.suppress(OSError):
        if found := re.search(rb"^Umask:\s*([0-7]+)", Path("/proc/self/status").read_bytes(), re.M):
            return mode & ~int(found[1], 8)
    with _umask_lock:  # it can only be asked for by setting it, for all threads
        umask = os.umask(0o077)
        os.umask(umask)
    return mode & ~umask


def _temporary_prefix(path: Path) -> str:
    """The start of the temporary name: not all of a long name, because names have at most 255 bytes."""
    return f".{path.stem[:50]}."


@contextlib.contextmanager
def _rename_in_errors(path: Path) -> Iterator[None]:
    """Replace the temporary file's name by `path` in errors."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str) and Path(error.filename).name.startswith(_temporary_prefix(path)):
            # a new one: that of PyAV cannot be changed
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def files_under(folder: Path, skip: Path) -> Iterator[Path]:
    """The files under a folder, at any depth, in a fixed order.

    Skips hidden files and folders, and the folder `skip`, which need not exist. Follows links and visits each
    folder once. A broken link counts as a file. Warns about folders that cannot be read.
    """

    def unreadable(error: OSError) -> None:
        log.warning("%s cannot be read (%s): its files are skipped", error.filename, error.strerror)

    seen: set[tuple[int, int]] = set()
    if skip.is_dir() and not skip.samefile(folder):
        seen.add(_identity(skip))
    for root, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        if (identity := _identity(Path(root))) in seen:
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def cache_folder() -> Path:
    """Default folder of what is computed or fetched once: SIGNCLIP_CACHE, or ~/.cache/mmpt."""
    return Path(os.environ.get("SIGNCLIP_CACHE") or Path.home() / ".cache" / "mmpt")


def remove_leftovers(folder: str | os.PathLike[str], *patterns: str) -> None:
    """Delete leftover temporary files of atomic_write in `folder`, and files that match `patterns`.

    Lock the folder first: the files of a running writer would be deleted too.
    """
    ours = [path for path in Path(folder).glob(".*") if re.fullmatch(TEMPORARY, path.name)]
    for path in [*ours, *(path for pattern in patterns for path in Path(folder).glob(pattern))]:
        if not path.is_dir():
            path.unlink(missing_ok=True)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raises UserError if `path` is a pipe, a device or a socket: reading it may never end."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # whoever opens the file reports it
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError(f"{path} is a pipe, a device or a socket; a regular file was expected.")


def check_name(path: str | Path) -> None:
    """Raises UserError for a path that is not UTF-8, which tables and records cannot store."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{str(path)!r}: the file name is not UTF-8: rename it.") from error


def file_in(folder: Path, name: str) -> Path:
    """folder / name, for a relative name from a file of others.

    Raises UserError for a name that leads out of the folder, or that no file can have.
    """
    check_name(name)
    if "\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise UserError(f"the name {name!r} cannot be that of a file in {folder}: expected a path inside it.")
    return folder / name


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file with its line ends as they are, and without a byte order mark.

    Raises OSError, and UserError for bytes that are not UTF-8 and for pipes.
    """
    check_regular(path)
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8.") from error


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write indented JSON atomically, with keys in the order given."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str], errors: str = "strict") -> Any:
    """The content of a JSON file (UTF-8). errors: see `open`.

    Raises OSError, and ValueError for pipes and for invalid or too deeply nested JSON.
    """
    check_regular(path)
    return parse_json(Path(path).read_text(encoding="utf-8", errors=errors))


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file; {} if the file is missing, cannot be read or holds something else."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def parse_json(text: str | bytes) -> Any:
    """JSON -> objects. Raises ValueError for invalid or too deeply nested JSON."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def file_stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    """What changes when a file is changed or replaced: size, modification and change time (ns), inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def content_ids(files: Iterable[Path]) -> dict[Path, str]:
    """A string for each file, the same for files with equal content.

    A missing file equals no other; a file of unique size is not read, and one that did not change since it
    was read is not read again.
    """
    found = {file: file.stat() if file.is_file() else None for file in dict.fromkeys(files)}
    counts = Counter(status.st_size for status in found.values() if status is not None)
    ids = {}
    for number, (file, status) in enumerate(found.items()):
        if status is None:
            ids[file] = f"missing {number}"
        elif counts[status.st_size] == 1:
            ids[file] = f"only file of {status.st_size} bytes"
        else:
            ids[file] = _known_sha256(file, *file_stamp(status))
    return ids


@functools.lru_cache(maxsize=1 << 16)
def _known_sha256(path: Path, *stamp: int) -> str:
    return sha256(path)


def sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's content. Raises OSError, and UserError for pipes."""
    check_regular(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
