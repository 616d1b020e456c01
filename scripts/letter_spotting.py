#!/usr/bin/env python
"""Spotting of letters and retrieval of spelled words, by models of the lexicon and by a sliding SVM.

    python scripts/letter_spotting.py --models runs/fslex_demo/model --out runs/letter_spotting

Joins letters of sign languages that the models do not know to recordings (scripts/join_letters.py): for
validation of asq and bzs, for the test of gsg, ase and sgg. Then it finds the 26 letters in the recordings.
The lengths of the windows, whether windows of different letters exclude each other, the thresholds, and C and
the score of the SVM are chosen on the validation recordings. The SVM has the features and the training clips
of the first model. And it ranks recordings of spelled words for each word, and words for each recording.

Several models, such as of three seeds, are averaged. Writes results.md, which is also printed, and the
recordings to --out.
"""

import argparse
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mmpt.cli import run_cli

import numpy as np

from mmpt.embedding.embedder import SignCLIP
from mmpt.evaluators.metrics.bootstrap import interval_of_mean
from mmpt.experiments import letter_spotting as spotting
from mmpt.experiments import spelled_words as words
from mmpt.experiments.letter_windows import LETTERS, LetterModels, LetterRecording
from mmpt.experiments.sliding_svm import SvmSettings, fit_svm
from mmpt.pose.joining import JOINS
from mmpt.spotting import WindowGrid
from mmpt.utils.allocator import keep_freed_memory
from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging
from mmpt.utils.outputs import FORCE_HELP, OutputKind, replace_output

STEP = 0.16
KIND = OutputKind("results of spotting", "signclip-letter-spotting", ".results.files.json", ("results.md",))


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--models",
        type=Path,
        nargs="+",
        required=True,
        help="model folders, or checkpoints beside config.yaml",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write (created if missing)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the recordings (default: 1)")
    parser.add_argument(
        "--join",
        choices=JOINS,
        default="crossfade",
        help="transition between two letters (default: crossfade)",
    )
    for name, count, what in (
        ("valid", 8, "recordings of letters for validation"),
        ("test", 18, "recordings of letters for the test"),
        ("words", 500, "spelled words"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=count, metavar="N", help=f"{what} (default: {count})"
        )
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Make the recordings, embed their windows, and print the tables."""
    setup_logging(logging.INFO)
    keep_freed_memory()
    models = LetterModels([SignCLIP.from_pretrained(path) for path in args.models])
    of = {name: getattr(args, name) for name in ("seed", "join", "valid", "test", "words")}
    of["models"] = [model.fingerprint for model in models.models]
    with replace_output(args.out, KIND, of, args.force) as fresh:
        text = f"{_spotting(args, models)}\n\n{_words(args, models)}\n"
        (fresh / "results.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _spotting(args: argparse.Namespace, models: LetterModels) -> str:
    grid = WindowGrid(tuple(sorted({s for lengths in spotting.LENGTHS for s in lengths})), STEP)
    valid = models.read(_joined(args, "valid", "--recordings", args.valid), grid)
    test = models.read(_joined(args, "test", "--recordings", args.test), grid)
    choices, results = [], []
    for number in range(len(models.models)):
        choices.append(spotting.choose(valid, _cosines(valid, number)))
        results.append(spotting.evaluate(test, _cosines(test, number), choices[-1]))
    clips, labels = models.training_clips()
    svms = {str(one): fit_svm(clips, labels, models.prompts, one) for one in SvmSettings.all()}
    of_svms = [
        {name: [svm(one.windows.features) for one in recordings] for name, svm in svms.items()}
        for recordings in (valid, test)
    ]
    choice = spotting.choose(valid, of_svms[0])
    of_svm = spotting.evaluate(test, of_svms[1], choice)
    svm = svms[choice.ranking[0]]
    known = _known_times(test, [svm(one.truth.features) for one in test])
    of_models = [
        _known_times(test, [one.truth.embedded[number].cosines for one in test])
        for number in range(len(models.models))
    ]
    lines = [
        f"Letters in {len(test)} recordings ({sum(len(one.letters) for one in test)} letters); chosen on "
        f"{len(valid)} recordings ({sum(len(one.letters) for one in valid)} letters). All are joined by "
        f"{args.join}, with seed {args.seed}. In brackets: 95 % intervals (bootstrap).\n",
        *(f"- model {number + 1}: {choice}" for number, choice in enumerate(choices)),
        f"- SVM: {choice}\n",
        spotting.table({"model": spotting.Result.mean(results), "SVM": of_svm}),
        "\nLetters of known times that are recognised: model "
        f"{_share(np.stack(of_models))}, SVM {_share(known)}, chance {1 / len(LETTERS):.3f}.",
    ]
    return "\n".join(lines)


def _words(args: argparse.Namespace, models: LetterModels) -> str:
    grid = WindowGrid((1.2,), STEP)
    valid = models.read(_joined(args, "valid", "--words", max(2, args.words * 2 // 5)), grid)
    test = models.read(_joined(args, "test", "--words", args.words), grid)
    texts, of_valid = [one.text for one in test], [one.text for one in valid]
    counts, valid_counts = (words.letter_counts(some, LETTERS) for some in (texts, of_valid))
    found: dict[str, list[np.ndarray]] = {}
    for number, prompts in enumerate(models.vectors):
        for what, part in (("windows", "windows"), ("known times", "truth")):
            seen, of_seen = ([getattr(one, part).embedded[number] for one in some] for some in (test, valid))
            temperature = words.choose_temperature(of_seen, valid_counts)
            for method, matrix in (
                ("mean", words.by_mean(seen, counts, prompts)),
                ("max", words.by_max(seen, counts)),
                ("shares", words.by_shares(seen, counts, temperature)),
            ):
                found.setdefault(f"{what}, {method}", []).append(matrix)
    found["every letter known"] = [words.same_letters(counts)]
    return f"{len(texts)} spelled words, {len(texts)} recordings:\n\n{words.table(found)}"


def _joined(args: argparse.Namespace, split: str, what: str, count: int) -> Path:
    """The folder of recordings, which are joined now, or were by an earlier run."""
    folder = args.out / f"{split}-{what.removeprefix('--')}"
    script = Path(__file__).with_name("join_letters.py")
    options = [what, str(count), "--split", split, "--seed", str(args.seed), "--join", args.join]
    words = [sys.executable, str(script), *options, "--out", str(folder), *["--force"] * args.force]
    if subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode:
        raise UserError(f"{folder}: the recordings were not written, see above.")
    return folder


def _cosines(recordings: Sequence[LetterRecording], model: int) -> dict[str, list[np.ndarray]]:
    return {"": [one.windows.embedded[model].cosines for one in recordings]}


def _known_times(recordings: Sequence[LetterRecording], scores: Sequence[np.ndarray]) -> np.ndarray:
    """Whether the letter of each clip of the recordings has the highest score; each clip counts once."""
    right: dict[tuple[str, int], list[bool]] = {}
    for recording, own in zip(recordings, scores):
        for letter, found in zip(recording.letters.tolist(), own.argmax(axis=1).tolist()):
            right.setdefault((recording.language, letter), []).append(found == letter)
    return np.array([np.mean(right[clip]) for clip in sorted(right)])


def _share(right: np.ndarray) -> str:
    low, high = interval_of_mean(right)
    return f"{right.mean():.3f} ({low:.3f} to {high:.3f}, {right.shape[-1]} clips)"


if __name__ == "__main__":
    sys.exit(main())
