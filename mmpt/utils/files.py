"""Atomic writes, reading of text and JSON, file hashes."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)


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
            prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}", dir=path.parent
        )
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp creates private files
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _rename_in_errors(path: Path) -> Iterator[None]:
    """Replace the temporary file's name by `path` in errors."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str) and Path(error.filename).name.startswith(f".{path.stem}."):
            error.filename = str(path)
            del error.filename2
        raise


@contextlib.contextmanager
def atomic_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder next to `folder`; when the block succeeds, it replaces `folder`.

    After an error or a kill `folder` is unchanged (it is missing for an instant between two renames); an
    error also removes the temporary folder.
    """
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(0o666 & ~umask)  # some writers create private files
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        temporary.chmod(0o777 & ~umask)  # mkdtemp creates private folders
        if not folder.exists():
            temporary.rename(folder)
            return
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent))
        folder.rename(old / folder.name)
        temporary.rename(folder)
        shutil.rmtree(old)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def remove_leftovers(folder: str | os.PathLike[str], *patterns: str) -> None:
    """Delete leftover temporary files of atomic_write in `folder`, and files that match `patterns`.

    Lock the folder first: the files of a running writer would be deleted too.
    """
    for pattern in (".*.tmp", ".*.tmp.*", *patterns):
        for path in Path(folder).glob(pattern):
            path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file with its line ends as they are, and without a byte order mark.

    Raises OSError, and UserError for bytes that are not UTF-8.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8.") from error


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write indented JSON atomically, with keys in the order given."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str], errors: str = "strict") -> Any:
    """The content of a JSON file (UTF-8). errors: see `open`.

    Raises OSError, and ValueError for invalid or too deeply nested JSON.
    """
    return parse_json(Path(path).read_text(encoding="utf-8", errors=errors))


def parse_json(text: str | bytes) -> Any:
    """JSON -> objects. Raises ValueError for invalid or too deeply nested JSON."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
