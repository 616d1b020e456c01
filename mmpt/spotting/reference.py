"""References of recordings: what is signed when, from ELAN, CSV or subtitle files."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmpt.spotting.metrics import Segments
from mmpt.timed_text import SUFFIXES, check_options, read_captions
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.logging import some_of
from mmpt.utils.text import counted, nfc

log = logging.getLogger(__name__)


def reference_files(recordings: Sequence[Path], given: Sequence[Path]) -> list[Path]:
    """The reference of each recording: the files given, in the same order, or those of a folder, by name.

    In a folder an .eaf file comes before one of another suffix. Raises UserError if their numbers differ,
    MissingDataError for a recording without a reference.
    """
    if len(given) == 1 and given[0].is_dir():
        order = sorted(SUFFIXES, key=lambda suffix: suffix != ".eaf")  # it is stable
        there = [[given[0] / f"{recording.stem}{suffix}" for suffix in order] for recording in recordings]
        files = [next((file for file in some if file.is_file()), None) for some in there]
        if None in files:
            missing = there[files.index(None)][0].name
            raise MissingDataError(f"{given[0]} has no reference {missing} (or {', '.join(order[1:])}).")
        return [file for file in files if file is not None]
    if len(given) != len(recordings):
        raise UserError(
            f"--reference: got {len(given)} files for {len(recordings)} recordings: give one for each, in "
            "the same order, or a folder that has a file of each recording's name."
        )
    return list(given)


def read_references(
    files: Sequence[Path],
    tiers: Sequence[str],
    names: Sequence[str],
    unit: str | None = None,
    media: str | None = None,
) -> list[Segments]:
    """The segments of each file whose text is one of `names`; the others are counted in a warning.

    unit: of a CSV file's columns start and end. media: see `read_elan`. Raises UserError if no text of any
    file is one of the names.
    """
    check_options(files, unit, media=media)
    number = {nfc(name): text for text, name in enumerate(names)}
    others: Counter[str] = Counter()
    used: set[str] = set()
    found = []
    for file in files:
        captions = read_captions(file, tiers, unit=unit, media=media)
        known = [caption for caption in captions if caption.text in number]
        others.update(caption.text for caption in captions if caption.text not in number)
        used.update(caption.tier for caption in known)
        spans = np.array([(c.start_ms, c.end_ms) for c in known], float).reshape(-1, 2) / 1000
        found.append(Segments(spans, np.array([number[c.text] for c in known], np.intp)))
    if not any(len(segments.texts) for segments in found):
        raise UserError(
            f"no text of {', '.join(map(str, files[:3]))} is among those to search for (in the reference: "
            f"{some_of([repr(text) for text in others]) or 'nothing'}; searched for: "
            f"{some_of([repr(name) for name in names])})."
        )
    if len(used) > 1 and not tiers:
        log.warning(
            "the segments of all %d tiers of the reference count (%s): choose some with --tier",
            *(len(used), some_of(sorted(used))),
        )
    if others:
        log.warning(
            "%s not searched for, and not counted: %s",
            counted(
                sum(others.values()),
                "segment of the reference has a text that is",
                "segments of the reference have texts that are",
            ),
            some_of([repr(text) for text in others]),
        )
    return found
