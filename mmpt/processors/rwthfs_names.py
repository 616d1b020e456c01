"""File names of the RWTH German Fingerspelling Database: parsing, checking and splitting.

Videos are named <signer>_<letter>_<sequence>_<camera>.mpg, numbers without leading zeros; the camera is cam1
(the hand) or cam2 (the upper body). The complete database has 3036 videos: 20 signers with two sequences of
each gesture, three with one sequence, and one who stops after the 13th gesture.
"""

import mimetypes
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmpt.utils.errors import UserError
from mmpt.utils.files import content_ids, files_under

#: names of the 35 gestures, in the order of their numbers, which start at 1
GESTURES = (*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "AE", "OE", "UE", "SCH", "One", "Two", "Three", "Four", "Five")
CAMERAS = ("cam1", "cam2")
SPLIT_SEED = 3407
SPLITS = ("train", "val", "test")

_NAME = re.compile(r"(?P<signer>[1-9]\d*)_(?P<letter>[1-9]\d*)_(?P<sequence>[1-9]\d*)_(?P<camera>cam[12])")
_SHARE = 0.1  # of validation, and of the test


@dataclass(frozen=True)
class ClipName:
    """The parts of a video's name."""

    signer: int
    letter: int
    sequence: int
    camera: str

    @property
    def gesture(self) -> str:
        """Name of the gesture, such as "A" or "Five"."""
        return GESTURES[self.letter - 1]

    def __str__(self) -> str:
        return f"{self.signer}_{self.letter}_{self.sequence}_{self.camera}"


def parse_name(stem: str) -> ClipName:
    """Parse a file name without folder and suffix. Raises UserError for an invalid name."""
    found = _NAME.fullmatch(stem)
    if found is None:
        raise UserError(f"{stem!r}: expected <signer>_<letter>_<sequence>_<camera>, such as 3_10_1_cam2.")
    name = ClipName(int(found["signer"]), int(found["letter"]), int(found["sequence"]), found["camera"])
    if name.letter > len(GESTURES):
        raise UserError(f"{stem!r}: there is no gesture {name.letter}: expected 1 to {len(GESTURES)}.")
    return name


def gesture_ids_text() -> str:
    """The gesture ids file: 35 lines, ` 1 = A` to `35 = Five`."""
    return "".join(f"{number:2d} = {name}\n" for number, name in enumerate(GESTURES, start=1))


@dataclass
class Inventory:
    """The videos in a folder: the file of each name, and messages about problems."""

    paths: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def stems(self) -> list[str]:
        """The names, sorted as strings, as the published split needs them."""
        return sorted(self.paths)

    @property
    def names(self) -> list[ClipName]:
        """The parsed names."""
        return [parse_name(stem) for stem in self.stems]


def take_inventory(folder: Path, out: Path) -> Inventory:
    """Find the videos in a folder and its subfolders, except in `out` (see files_under).

    Problems are: invalid names or suffixes (skipped), broken links and empty files (skipped), duplicate names
    (one is kept), duplicate content, gestures and cameras without any video. Other files are ignored.
    """
    problems: list[str] = []
    places: dict[str, list[Path]] = {}
    for path in sorted(files_under(folder, skip=out)):
        if not (mimetypes.guess_type(path.name)[0] or "").startswith("video/"):
            continue
        shown = path.relative_to(folder)
        if path.suffix.lower() != ".mpg":
            problems.append(f"bad name: {shown}: expected the suffix .mpg.")
            continue
        try:
            parse_name(path.stem)
        except UserError as error:
            problems.append(f"bad name: {shown}: {error}")
            continue
        if not path.is_file() or path.stat().st_size == 0:
            problems.append(f"{'empty file' if path.is_file() else 'broken link'}: {shown}")
            continue
        places.setdefault(path.stem, []).append(path)
    repeated = {stem: paths for stem, paths in sorted(places.items()) if len(paths) > 1}
    problems += [
        f"duplicate name: {stem}: {', '.join(str(path.relative_to(folder)) for path in paths)}"
        for stem, paths in repeated.items()
    ]
    problems += [f"duplicate content: {', '.join(stems)}" for stems in _same_content(places)]
    made = Inventory({stem: paths[0] for stem, paths in places.items()}, problems)
    names = made.names
    letters, cameras = {name.letter for name in names}, {name.camera for name in names}
    missing = [
        f"{number} ({gesture})" for number, gesture in enumerate(GESTURES, start=1) if number not in letters
    ]
    if missing:
        problems.append(f"missing letters: no video of {', '.join(missing)}")
    problems += [f"missing camera: no video of {camera}" for camera in CAMERAS if camera not in cameras]
    return made


def make_links(paths: dict[str, Path], folder: Path, camera: str | None = None) -> None:
    """Create links to the videos (of one camera) in `folder`, which extractors read.

    Links to other videos are removed. Raises UserError if the folder holds files that are not links.
    """
    wanted = {
        f"{stem}.mpg": path.resolve()
        for stem, path in paths.items()
        if camera in (None, parse_name(stem).camera)
    }
    folder.mkdir(parents=True, exist_ok=True)
    others = [path.name for path in folder.iterdir() if not path.is_symlink()]
    if others:
        raise UserError(f"{folder} holds files that are not links, such as {others[0]}: move them elsewhere.")
    for path in folder.iterdir():
        if path.name not in wanted or path.readlink() != wanted[path.name]:
            path.unlink()
    for name, target in wanted.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(target)


def _same_content(places: dict[str, list[Path]]) -> list[list[str]]:
    """Groups of stems whose files have equal content, which would leak between splits."""
    content = content_ids(paths[0] for paths in places.values())
    groups: dict[str, list[str]] = {}
    for stem in sorted(places):
        groups.setdefault(content[places[stem][0]], []).append(stem)
    return sorted(stems for stems in groups.values() if len(stems) > 1)


def published_split(stems: Iterable[str]) -> dict[str, list[str]]:
    """The split of the published experiments: {"train", "val", "test"} -> names, in the published order.

    The names, sorted as strings, are shuffled; the first tenth (rounded down) is for validation, the next for
    the test. So both cameras of a recording, and a signer, may be in different splits. Raises UserError for
    fewer than 10 names.
    """
    shuffled = sorted(stems)
    random.Random(SPLIT_SEED).shuffle(shuffled)
    count = int(_SHARE * len(shuffled))
    if count == 0:
        raise UserError(
            f"the published split uses a tenth of the videos for validation and a tenth for the test: got "
            f"{len(shuffled)} videos, expected at least 10."
        )
    return {"train": shuffled[2 * count :], "val": shuffled[:count], "test": shuffled[count : 2 * count]}


def signer_split(stems: Iterable[str]) -> dict[str, list[str]]:
    """A split in which each signer is in one part only.

    Validation, then the test, take shuffled signers until they have a tenth of the names, at least one
    signer. Names within a split are sorted as strings. Raises UserError for fewer than 3 signers.
    """
    by_signer: dict[int, list[str]] = {}
    for stem in sorted(stems):
        by_signer.setdefault(parse_name(stem).signer, []).append(stem)
    signers = sorted(by_signer)
    if len(signers) < len(SPLITS):
        raise UserError(
            f"a split by signer needs at least {len(SPLITS)} signers, got {len(signers)}: {signers}."
        )
    random.Random(SPLIT_SEED).shuffle(signers)
    wanted = int(_SHARE * sum(len(names) for names in by_signer.values()))
    split: dict[str, list[str]] = {name: [] for name in SPLITS}
    for position, signer in enumerate(signers):
        left = len(signers) - position
        if not split["val"] or (len(split["val"]) < wanted and left > 2):
            split["val"] += by_signer[signer]
        elif not split["test"] or (len(split["test"]) < wanted and left > 1):
            split["test"] += by_signer[signer]
        else:
            split["train"] += by_signer[signer]
    return {name: sorted(names) for name, names in split.items()}


def describe_split(split: Mapping[str, Sequence[str]]) -> list[str]:
    """One line of counts for each split, and the gestures that are missing in train."""
    lines, gestures = [], {}
    for part, stems in split.items():
        names = [parse_name(stem) for stem in stems]
        gestures[part] = {name.gesture for name in names}
        body = sum(name.camera == "cam2" for name in names)
        signers = len({name.signer for name in names})
        counts = f"{len(names):5d} clips ({body} of cam2), {len(gestures[part])} gestures"
        lines.append(f"{part:5s} {counts}, {signers} signers")
    absent = {part: sorted(gestures[part] - gestures["train"], key=GESTURES.index) for part in SPLITS}
    return lines + [
        f"{part} has gestures that are not in train: {', '.join(missing)}"
        for part, missing in absent.items()
        if missing
    ]
