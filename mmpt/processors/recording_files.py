"""Recordings in a folder, how long they are, and which files have their captions."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmpt.pose.recording import PoseRecording
from mmpt.timed_text.caption import Findings
from mmpt.utils.errors import UserError
from mmpt.utils.files import check_name, files_under
from mmpt.utils.logging import some_of
from mmpt.utils.videos import CLIP_SUFFIXES

_LANGUAGE = re.compile(r"(.+)\.([A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*)")


@dataclass(frozen=True, order=True)
class Recording:
    """A pose file, features or a video. name: its path in the folder, without its suffix, with `/`."""

    name: str
    path: Path

    def length(self, fps: float | None = None) -> tuple[int, float] | None:
        """Frames and frames per second; None for videos. fps: of features. Raises UserError."""
        suffix = self.path.suffix.lower()
        if suffix == ".pose":
            recording = PoseRecording(self.path)
            return len(recording), recording.fps
        if suffix != ".npy":
            return None
        if fps is None:
            raise UserError(f"{self.path}: features have no frame rate: give their rows per second (--fps).")
        try:
            return len(np.load(self.path, mmap_mode="r")), fps
        except (OSError, ValueError, EOFError, TypeError) as error:
            raise UserError(f"{self.path}: not readable as an array ({error}).") from error


def find_recordings(folder: Path, suffix: str | None = None) -> list[Recording]:
    """The recordings under a folder, sorted. suffix: only those with it.

    Raises UserError if there are none, if two have one name (such as a video beside its pose), and for a name
    that is not UTF-8.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder.")
    wanted = CLIP_SUFFIXES if suffix is None else {suffix.lower()}
    found: dict[str, Path] = {}
    for path in files_under(folder, skip=folder):
        if path.suffix.lower() in wanted:
            check_name(path)
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise UserError(
                    f"{found[name]} and {path} are one recording: choose by suffix (--suffix {path.suffix})."
                )
            found[name] = path
    if not found:
        raise UserError(
            f"{folder}: there are no recordings; expected files ending in {' '.join(sorted(wanted))}."
        )
    return [Recording(name, path) for name, path in sorted(found.items())]


def match_captions(
    recordings: Sequence[Recording], folder: Path, suffixes: Collection[str], language: str | None = None
) -> tuple[dict[str, Path], list[str]]:
    """Name of a recording -> its file of captions; and the names of the files without a recording.

    A file belongs to the recording of the same path in its folder, else to the only one of the same file
    name. The name may end in a language (talk.en.vtt). language: of several files of a recording, the one to
    take. Raises UserError if none belongs to a recording, or several belong to one.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder.")
    names = {recording.name for recording in recordings}
    by_file: dict[str, list[str]] = {}
    for name in sorted(names):
        by_file.setdefault(Path(name).name, []).append(name)
    candidates: dict[str, list[tuple[str, Path]]] = {}
    stray = []
    for path in files_under(folder, skip=folder):
        if path.suffix.lower() not in suffixes:
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        tagged = _LANGUAGE.fullmatch(stem)
        for name, tag in [(stem, ""), *([(tagged[1], tagged[2])] if tagged else [])]:
            same = by_file.get(Path(name).name, [])
            owner = name if name in names else same[0] if len(same) == 1 else None
            if owner is not None:
                candidates.setdefault(owner, []).append((tag, path))
                break
        else:
            stray.append(path.relative_to(folder).as_posix())
    if not candidates:
        raise UserError(
            f"{folder}: no file ({' '.join(sorted(suffixes))}) has the name of one of the {len(names)} "
            f"recordings, such as {recordings[0].name}."
        )
    chosen = {name: _only(name, files, language) for name, files in sorted(candidates.items())}
    return {name: path for name, path in chosen.items() if path is not None}, stray


def _only(name: str, files: list[tuple[str, Path]], language: str | None) -> Path | None:
    """The file of captions in the language. Raises UserError if there are several."""
    if language is not None:
        exact = [path for tag, path in files if tag.lower() == language.lower()]
        regional = [path for tag, path in files if tag.lower().startswith(f"{language.lower()}-")]
        paths = exact or regional or [path for tag, path in files if not tag]
    else:
        paths = [path for _, path in files]
    if len(paths) > 1:
        raise UserError(
            f"{name}: several files have its captions ({some_of([path.name for path in paths])}): choose by "
            "language (--language en), or give a folder with one of them (--subtitles)."
        )
    return paths[0] if paths else None


def cut_to(
    start_ms: int, end_ms: int, length: tuple[int, float] | None, where: str, findings: Findings
) -> tuple[int, int] | None:
    """The part of a caption within a recording of `length`; None if there is none. Both are counted."""
    if not 0 <= start_ms < end_ms:
        findings.add("captions that end before they start, or start before 0, left out", where)
        return None
    if length is None:
        return start_ms, end_ms
    frames, fps = length
    if round(start_ms * fps / 1000) >= frames:
        findings.add("captions that start after the recording's end, left out", where)
        return None
    duration = round(frames * 1000 / fps)
    if end_ms > duration:
        findings.add("captions that end after the recording's end, cut there", where)
    return start_ms, max(min(end_ms, duration), start_ms + 1)
