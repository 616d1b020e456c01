#!/usr/bin/env python
"""Join letters of the fingerspelling lexicon to recordings, with the start and end of each letter.

    python scripts/join_letters.py --recordings 12 --seed 1 --out data/letters
    python scripts/join_letters.py --words 500 --seed 1 --out data/words
    python scripts/join_letters.py --split train valid test --words 400 100 200 --out data/spelled

A recording is of one sign language, in turn: gsg, ase and sgg (--split test) or asq and bzs (--split valid),
which the models of projects/signclip/fslex_*.yaml are not trained on, or eso, ise, mfs, psr, ssp, svk and swl
(--split train). --recordings draws 20 to 60 letters for each; --words draws different words of 3 to 8
letters, in which letters follow each other as in English words. There is one clip of each letter in each
language: a letter that occurs twice is the same clip. Several splits, each with its number, share no word.

Between two letters, and at both ends, the hand rests for --rests seconds. The clips begin and end with a
lowered hand: a rest is made of the last frame of one and the first frame of the next. `--join crossfade`
moves all points in a straight line from one to the other, `--join cut` holds each for half of the time.
Clips of left-handed signers are mirrored, all are resampled to 25 frames per second, and the shoulders are
at the same place throughout.

Writes recordings/ID.pose, and for each the reference as ID.eaf (ELAN) and ID.csv, with two tiers: `letter`
(the clip) and `core` (from the first to the last frame with the wrist in the upper half of its path);
recordings.csv, with a row for each recording, whose column `letters` has spaces between the letters; and
table.csv, with a row for each letter.
"""

import argparse
import csv
import itertools
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpt.cli import run_cli

import numpy as np

from mmpt.config.dataset_options import LexiconOptions
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import FULL_BODY, HANDS, POSE
from mmpt.pose.joining import JOINS, join_clips
from mmpt.pose.mirror import mirror
from mmpt.pose.reader import read_pose
from mmpt.pose.writer import as_pose
from mmpt.processors.fingerspelling import find_lexicon, read_index, split_rows
from mmpt.timed_text import Caption, write_elan, write_timed_csv
from mmpt.utils.errors import UserError
from mmpt.utils.outputs import FORCE_HELP, OutputKind, replace_output

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FPS, SIZE = 25.0, 500
LETTERS, LENGTHS = (20, 60), (3, 8)
SPLITS = ("valid", "test", "train")
TRAIN = ["eso", "ise", "mfs", "psr", "ssp", "svk", "swl"]
"""The training languages of configs/fslex.yaml that have all letters."""
KIND = OutputKind(
    "joined letters", "signclip-joined-letters", ".joined.files.json", ("*.csv", "recordings/*")
)
WORDS = """able above again all also and answer back bank bath beauty been begin best big black board
body book bottom box boy bring build busy call can care cause check class clear cold come copy country
cross cut dark deep door draw drink dry ear earth easy egg enough equal even example face fall farm
father few fight fill fine fish fly food form free from full garden girl glass good green group half
happy have hear heavy here hold horse hour how hunt idea island job join jump just kind kitchen know
language last laugh learn left less life like list little long lost low made make many mark mean milk
minute month more most mountain much must near never next north note number off old only orange other
over page paper pass people place plan play power pull put quarter queen quick quiet quite rain reach
ready red rich right road room rule sail sand school sea see set shape short side sing sit six sleep
small some soon south speak spring square stand start stay stop street study sugar sun table take tax
taxi teach ten that then these think those time told town tree try two unit use visit vowel walk want
watch wave week went wheel where white why window wish wonder word world year yes zebra zero zone"""


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    many = {"type": int, "nargs": "+", "metavar": "N"}
    what.add_argument("--recordings", **many, help="N recordings of 20 to 60 letters each")
    what.add_argument("--words", **many, help="N recordings of a word each")
    parser.add_argument("--out", type=Path, required=True, help="folder to write (created if missing)")
    parser.add_argument("--seed", type=int, default=1, help="seed of all that is drawn (default: 1)")
    parser.add_argument(
        "--split", nargs="+", choices=SPLITS, default=["test"], help="splits to write (default: test)"
    )
    parser.add_argument(
        "--join",
        choices=JOINS,
        default="crossfade",
        help="transition between two letters (default: crossfade)",
    )
    parser.add_argument(
        "--rests",
        type=float,
        nargs=2,
        default=(0.2, 1.0),
        metavar=("FROM", "TO"),
        help="seconds between two letters, drawn uniformly (default: 0.2 1.0)",
    )
    parser.add_argument("--face", action="store_true", help="keep the face, 468 more points")
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)
    return run_cli(join, parser.parse_args(argv))


def join(args: argparse.Namespace) -> int:
    """Write the recordings, their references and the tables."""
    counts = args.words if args.recordings is None else args.recordings
    if len(counts) != len(args.split) or len({*args.split}) < len(counts):
        raise UserError(
            f"got {len(counts)} numbers of recordings for --split {' '.join(args.split)}: expected one for "
            "each split, and each split once."
        )
    if bad := [count for count in counts if not 1 <= count <= 100_000]:
        raise UserError(f"expected 1 to 100000 recordings, got {bad[0]}.")
    if not 0 <= args.rests[0] <= args.rests[1] <= 60:
        raise UserError(f"--rests: got {args.rests}; expected seconds, 0 <= FROM <= TO <= 60.")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: expected 0 or more.")
    keys = ("recordings", "words", "seed", "split", "join", "rests", "face")
    of = {key: list(value) if key == "rests" else value for key, value in vars(args).items() if key in keys}
    spoken: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    taken: set[str] = set()
    with replace_output(args.out, KIND, of, args.force) as folder:
        for split, count in zip(args.split, counts):
            texts = draw_texts(args.seed, split, count, args.words is not None, taken)
            taken |= {*texts}
            for known, tiers in write_split(args, split, texts, folder):
                spoken.append(known)
                rows += letter_rows(known, tiers)
        write_rows(folder / "recordings.csv", spoken)
        write_rows(folder / "table.csv", rows)
    languages = ", ".join(dict.fromkeys(row["signed_language"] for row in spoken))
    print(f"wrote {args.out}: {len(spoken)} recordings, {len(rows)} letters of {languages}")
    return 0


def write_split(
    args: argparse.Namespace, split: str, texts: Sequence[str], folder: Path
) -> Iterator[tuple[dict[str, Any], dict[str, list[Caption]]]]:
    """Write the recordings of a split: the row of each in recordings.csv, and the times of its letters."""
    letters = read_letters(split, args.face)
    for number, text in enumerate(texts):
        language = list(letters)[number % len(letters)]
        name = f"{language}_{number + 1:03d}"
        rests = np.random.default_rng([args.seed, number, 1]).uniform(*args.rests, len(text) + 1)
        clip, tiers = recording([letters[language][letter] for letter in text], text, rests, args.join)
        write_recording(folder / f"recordings/{name}.pose", clip, tiers)
        yield (
            {
                "id": name,
                "path": f"recordings/{name}.pose",
                "split": split,
                "signed_language": language,
                "signer": f"{language}-1",
                "text": text if args.words else " ".join(text),
                "letters": " ".join(text),
            },
            tiers,
        )


def read_letters(split: str, face: bool) -> dict[str, dict[str, PoseClip]]:
    """The clips of the letters A to Z, by sign language and letter."""
    options = LexiconOptions()
    languages = {"test": options.test_languages, "valid": options.valid_languages, "train": TRAIN}
    rows = split_rows(read_index(find_lexicon(None)), languages, options.letters, False)[split]
    found: dict[str, dict[str, PoseClip]] = {name: {} for name in languages[split]}
    for row in rows:
        clip = read_pose(row.path, FULL_BODY if face else (POSE, *HANDS))
        found[row.language][row.letter] = mirror(clip) if row.language in options.left_handed else clip
    return found


def draw_texts(seed: int, split: str, count: int, words: bool, taken: Collection[str] = ()) -> list[str]:
    """The letters of each recording; words are different from each other and from `taken`."""
    start = [seed, SPLITS.index(split)]
    if not words:
        generators = [np.random.default_rng([*start, number]) for number in range(count)]
        low, high = LETTERS
        return ["".join(rng.choice(list(ALPHABET), rng.integers(low, high + 1))) for rng in generators]
    rng, first, following = np.random.default_rng(start), *letter_statistics()
    drawn: dict[str, None] = {}
    while len(drawn) < count:
        numbers = [int(rng.choice(26, p=first))]
        for _ in range(rng.integers(LENGTHS[0], LENGTHS[1] + 1) - 1):
            numbers.append(int(rng.choice(26, p=following[numbers[-1]])))
        word = "".join(ALPHABET[number] for number in numbers)
        if word not in taken:
            drawn[word] = None
    return list(drawn)


def letter_statistics() -> tuple[np.ndarray, np.ndarray]:
    """How often each letter begins a word of WORDS [26], and follows each other letter in one [26, 26].

    0.1 is added to each count of pairs, so that all pairs occur.
    """
    first, following = np.full(26, 0.1), np.full((26, 26), 0.1)
    for word in WORDS.upper().split():
        first[ALPHABET.index(word[0])] += 1
        for one, other in itertools.pairwise(word):
            following[ALPHABET.index(one), ALPHABET.index(other)] += 1
    return first / first.sum(), following / following.sum(axis=1, keepdims=True)


def recording(
    clips: Sequence[PoseClip], text: str, rests: Sequence[float], how: str
) -> tuple[PoseClip, dict[str, list[Caption]]]:
    """The joined clips, and the time of each letter and of its core."""
    joined, spans = join_clips(clips, rests, FPS, how)
    wrist = joined.data[:, joined.index(POSE, "RIGHT_WRIST"), 1]
    cores = [tuple(start + edge for edge in core_of(wrist[start:end])) for start, end in spans]
    tiers = {
        tier: [
            Caption(round(1000 * start / FPS), round(1000 * end / FPS), letter, tier)
            for letter, (start, end) in zip(text, frames, strict=True)
        ]
        for tier, frames in (("letter", spans), ("core", cores))
    }
    return joined, tiers


def core_of(height: np.ndarray) -> tuple[int, int]:
    """The frames [start, end) from the first to the last with the wrist in the upper half of its path.

    height: y of the wrist, downwards.
    """
    raised = np.flatnonzero(height <= (height.min() + height.max()) / 2)
    return int(raised[0]), int(raised[-1]) + 1


def letter_rows(known: Mapping[str, str], tiers: Mapping[str, Sequence[Caption]]) -> list[dict[str, Any]]:
    """The letters of a recording as rows of a table of clips."""
    shared = {key: known[key] for key in ("path", "split", "signed_language", "signer")}
    return [
        {
            "id": f"{known['id']}-{place:02d}",
            **shared,
            "text": letter.text,
            "start": letter.start_ms,
            "end": letter.end_ms,
            "core_start": core.start_ms,
            "core_end": core.end_ms,
        }
        for place, (letter, core) in enumerate(zip(tiers["letter"], tiers["core"], strict=True), 1)
    ]


def write_recording(path: Path, clip: PoseClip, tiers: Mapping[str, Sequence[Caption]]) -> None:
    """Write the poses, and the reference beside them."""
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        as_pose(clip, SIZE).write(file)
    write_elan(path.with_suffix(".eaf"), tiers)
    write_timed_csv(path.with_suffix(".csv"), [caption for tier in tiers.values() for caption in tier])


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table of clips."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
