"""ELAN files (.eaf), through the package pympi-ling."""

import mimetypes
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.etree import ElementTree

from mmpt.registry import nearest
from mmpt.timed_text.caption import Caption, Findings, collected, tidy
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import atomic_write, check_regular

if TYPE_CHECKING:
    from pympi import Eaf

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""A character that XML cannot hold."""


def read_elan(
    path: str | Path,
    tiers: Sequence[str] = (),
    offset_ms: int = 0,
    findings: Findings | None = None,
    media: str | None = None,
) -> list[Caption]:
    """The annotations of an .eaf file; see `tidy`.

    tiers: their names (default: all). An annotation of a tier that depends on another one has the time of the
    annotation that it refers to. Annotations without a time are left out and counted. The signer is the
    tier's participant. Times are those of the linked media: if ELAN shifts these (a synchronised camera), the
    captions are moved, and counted. Of media that are shifted differently, the one with the name of the file
    counts, or the one that matches `media`, a name with * and ?. Raises UserError for a missing tier, for a
    file that ELAN would not open, and for media of which none matches, or that leave several shifts.
    """
    eaf = _parsed(Path(path))
    for tier in tiers:
        if tier not in eaf.tiers:
            known = ", ".join(repr(name) for name in eaf.tiers) or "none"
            raise UserError(f"{path}: there is no tier {tier!r}.{nearest(tier, eaf.tiers)} Tiers: {known}.")
    shift = _media_shift(Path(path), eaf, media)
    with collected(findings) as found:
        cues = [cue for tier in tiers or eaf.tiers for cue in _cues(Path(path), eaf, tier, found)]
        moved = f"ELAN annotations whose video is shifted by {shift} ms in ELAN, moved"
        found.add(moved, str(path), len(cues) if shift else 0)
        return tidy(cues, offset_ms + shift, found)


def tier_names(path: str | Path) -> list[str]:
    """The names of the tiers of an .eaf file, in order. Raises UserError."""
    return list(_parsed(Path(path)).tiers)


def write_elan(
    path: str | Path,
    captions_by_tier: Mapping[str, Sequence[Caption]],
    media: str | Path | None = None,
    home: str | Path | None = None,
) -> None:
    """Write an .eaf file with one tier for each name, even if it has no captions.

    A tier of ELAN holds no overlapping annotations: captions that overlap go to further tiers, NAME-2,
    NAME-3, ... A tier's participant is the signer of its captions, if they have the same. media: the video to
    link to. home: the folder in which the file will be, if it is moved there later. Raises UserError for
    text, names and paths that XML cannot hold, for no tier, for a tier without a name, and for a caption that
    does not end after it starts.
    """
    from pympi import Eaf
    from pympi.Elan import to_adocument

    path = Path(path)
    if not captions_by_tier or "" in captions_by_tier:
        raise UserError(f"{path}: there is no tier to write, or one without a name.")
    eaf = Eaf(author="mmpt")
    eaf.adocument["DATE"] = "1970-01-01T00:00:00+00:00"  # equal captions give equal files
    eaf.remove_tier("default")
    taken = set(captions_by_tier)
    for name, captions in captions_by_tier.items():
        for number, part in enumerate(_without_overlaps(captions), start=1):
            tier = name
            while number > 1 and (tier := f"{name}-{number}") in taken:
                number += 1
            taken.add(tier)
            _add_tier(path, eaf, tier, part)
    if media is not None:
        kind = mimetypes.guess_type(str(media))[0] or "unknown"
        relative = os.path.relpath(media, path.parent if home is None else home)
        eaf.add_linked_file(Path(media).resolve().as_uri(), f"./{Path(relative).as_posix()}", kind)
    document = to_adocument(eaf)
    xml = ElementTree.tostring(document, encoding="unicode")
    if bad := NOT_XML.search(xml):
        shown = xml[max(0, bad.start() - 30) : bad.end() + 30]
        raise UserError(f"{path}: {shown!r} holds a character that XML cannot hold: remove it.")
    with atomic_write(path) as temporary:  # pympi's own writer renames a file that is there to .bak
        ElementTree.ElementTree(document).write(temporary, encoding="UTF-8", xml_declaration=True)


def _add_tier(path: Path, eaf: "Eaf", tier: str, captions: Sequence[Caption]) -> None:
    signers = {caption.signer for caption in captions}
    eaf.add_tier(tier, part=signers.pop() or None if len(signers) == 1 else None)
    for caption in captions:
        if not 0 <= caption.start_ms < caption.end_ms:
            raise UserError(f"{path}: expected a caption that starts at 0 or later and then ends: {caption}.")
        eaf.add_annotation(tier, caption.start_ms, caption.end_ms, caption.text)


def _without_overlaps(captions: Sequence[Caption]) -> list[list[Caption]]:
    """The captions in as few lists as needed, so that those of a list do not overlap; at least one list."""
    lists: list[list[Caption]] = [[]]
    for caption in sorted(captions):
        free = (part for part in lists if not part or part[-1].end_ms <= caption.start_ms)
        if (part := next(free, None)) is None:
            lists.append(part := [])
        part.append(caption)
    return lists


def _parsed(path: Path) -> "Eaf":
    from pympi import Eaf

    check_regular(path)
    if not path.is_file():
        raise MissingDataError(f"there is no file {path}.")
    try:
        root = ElementTree.parse(path).getroot()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a version that pympi does not list
            eaf = Eaf(path)
    except Exception as error:  # pympi raises all kinds of exceptions on incomplete files
        why = f"{error} is missing" if isinstance(error, KeyError) else error or repr(error)
        raise UserError(f"{path}: not readable as an ELAN file ({why}).") from error
    for slot in root.iter("TIME_SLOT"):
        time = slot.get("TIME_VALUE", "0").strip()
        if not (time.isascii() and time.removeprefix("-").isdecimal()):
            raise UserError(f"{path}: the time {time!r} is no number of milliseconds.")
    header = root.find("HEADER")
    units = "milliseconds" if header is None else header.get("TIME_UNITS", "milliseconds")
    if units != "milliseconds":
        raise UserError(
            f"{path}: its times are in {units}: open and save it in ELAN, which writes milliseconds."
        )
    ids = {"TIER": eaf.tiers, "ANNOTATION": eaf.annotations, "TIME_SLOT": eaf.timeslots}
    for tag, known in ids.items():
        if (there := sum(1 for _ in root.iter(tag))) != len(known):
            raise UserError(
                f"{path}: {there} elements {tag} have {len(known)} different ids; ids have to be unique: "
                "open and save it in ELAN."
            )
    if within := next((part.tag for text in root.iter("ANNOTATION_VALUE") for part in text), None):
        raise UserError(f"{path}: the text of an annotation holds an XML element {within}: remove it.")
    return eaf


def _media_shift(path: Path, eaf: "Eaf", chosen: str | None) -> int:
    """The time in the recording, in milliseconds, at which the annotations have time 0 (TIME_ORIGIN)."""
    media = [
        (re.split(r"[/\\]", unquote(item.get("MEDIA_URL", "")))[-1], item) for item in eaf.media_descriptors
    ]
    if chosen is None:
        named = [pair for pair in media if Path(pair[0]).stem.casefold() == path.stem.casefold()] or media
    elif not (named := [pair for pair in media if fnmatchcase(pair[0], chosen)]):
        known = ", ".join(repr(name) for name, _ in media) or "none"
        raise UserError(f"{path}: there is no media file {chosen!r}. Media: {known}.")
    videos = [pair for pair in named if pair[1].get("MIME_TYPE", "").startswith("video")] or named
    shifts = [(name, item.get("TIME_ORIGIN") or "0") for name, item in videos]
    if wrong := [value for _, value in shifts if not re.fullmatch(r"-?[0-9]{1,12}", value)]:
        raise UserError(f"{path}: the TIME_ORIGIN {wrong[0]!r} is no number of milliseconds.")
    if len({int(value) for _, value in shifts}) > 1:
        raise UserError(
            f"{path}: ELAN shifts its media differently ("
            + ", ".join(f"{name} by {value} ms" for name, value in shifts)
            + "): choose one (--media NAME)."
        )
    return int(shifts[0][1]) if shifts else 0


def _cues(path: Path, eaf: "Eaf", tier: str, found: Findings) -> Iterator[tuple[str, Caption]]:
    """(where, caption) of the annotations of a tier that have a time."""
    aligned, dependent, attributes, _ = eaf.tiers[tier]
    signer = attributes.get("PARTICIPANT") or ""
    shared = Counter(annotation[0] for annotation in dependent.values())
    for name, annotation in [*aligned.items(), *dependent.items()]:
        where = f"{path}, tier {tier!r}, annotation {name}"
        start, end = _times(eaf, name)
        if start is None or end is None:
            found.add("ELAN annotations without a time, left out", where)
            continue
        if name in dependent and shared[annotation[0]] > 1:
            found.add("ELAN annotations that share the time of one annotation, kept", where)
        text = annotation[1 if name in dependent else 2]
        yield where, Caption(start, end, text, tier, signer)


def _times(eaf: "Eaf", name: str) -> tuple[int | None, int | None]:
    """Start and end of an annotation, or of the one that it refers to; None where there is none."""
    seen: set[str] = set()
    while name in eaf.annotations and name not in seen:  # references in a circle have no time
        seen.add(name)
        aligned, dependent, *_ = eaf.tiers[eaf.annotations[name]]
        if name in aligned:
            start, end = aligned[name][:2]
            return eaf.timeslots.get(start), eaf.timeslots.get(end)
        name = dependent[name][0]
    return None, None
