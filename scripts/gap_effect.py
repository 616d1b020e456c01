#!/usr/bin/env python
"""Effect of dataset.fill_gaps on a trained model when frames of the hands are hidden at random.

    python scripts/gap_effect.py runs/fslex_demo/model --config projects/signclip/test_fslex_demo.yaml
    python scripts/gap_effect.py --write data/lexicon_gaps --shares 0.4

Counts the gaps of the hands in the clips of the test split, then hides a share of the frames of both hands,
in gaps of 1 to --longest frames (which may touch), never the first or the last frame. Prints V2T R@1 of each
seed, and the paired difference to no filling with its 95 % interval (bootstrap over clips). With --write,
all clips of the lexicon are written with hidden frames instead, to train on them (dataset.vfeat_dir).
"""

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mmpt.cli import run_cli

import numpy as np
from pose_format import Pose

from mmpt.config import load_config
from mmpt.embedding.embedder import SignCLIP
from mmpt.evaluators.metrics.bootstrap import interval_of_mean
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import HANDS
from mmpt.pose.reader import read_clip
from mmpt.processors.fingerspelling import find_lexicon, read_index
from mmpt.tasks.task import Task
from mmpt.utils.errors import UserError
from mmpt.utils.outputs import FORCE_HELP, OutputKind, replace_output

KIND = OutputKind(
    "a lexicon with gaps", "signclip-lexicon-gaps", ".lexicon.files.json", ("index.csv",), alone=True
)


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", help="model folder")
    parser.add_argument("--config", help="config of the test split")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write clips (created if missing)")
    parser.add_argument(
        "--shares", nargs="+", type=float, help="hidden frames (default: 0.2 0.4; with --write: 0.2)"
    )
    parser.add_argument("--longest", type=int, default=5, help="frames of the longest gap (default: 5)")
    parser.add_argument("--fill", nargs="+", type=int, help="values of fill_gaps (default: 5 25)")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: 1 2 3; with --write: 1")
    parser.add_argument("--force", action="store_true", help=f"with --write: {FORCE_HELP}")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Check the arguments, and write or measure."""
    args.shares = args.shares or ([0.2] if args.write else [0.2, 0.4])
    if args.write and args.fill:
        raise UserError("--write fills no gaps: leave out --fill.")
    args.fill = args.fill or [5, 25]
    args.seeds = args.seeds or ([1] if args.write else [1, 2, 3])
    if not all(0 < share < 1 for share in args.shares) or args.longest < 1:
        raise UserError(
            f"--shares {args.shares} --longest {args.longest}: expected above 0 and below 1; 1 or more."
        )
    if min(args.seeds) < 0:
        raise UserError(f"--seeds {min(args.seeds)}: expected 0 or more.")
    if min(args.fill) < 1:
        raise UserError(f"--fill {min(args.fill)}: expected 1 or more frames.")
    for option in ("shares", "fill", "seeds"):
        values = getattr(args, option)
        if len(set(values)) < len(values):
            raise UserError(f"--{option} {' '.join(map(str, values))}: expected each value once.")
    if args.write:
        if args.model or args.config or len(args.shares) > 1 or len(args.seeds) > 1:
            raise UserError("--write takes one of --shares and one of --seeds, and no model and no --config.")
        return write(args.write, args.shares[0], args.longest, args.seeds[0], args.force)
    if not (args.model and args.config):
        raise UserError("give a model folder and --config, or --write FOLDER.")
    return measure(args)


def write(folder: Path, share: float, longest: int, seed: int, force: bool) -> int:
    """Write the lexicon with hidden frames, and its index.csv."""
    lexicon = find_lexicon(None)
    paths = sorted({row.path for row in read_index(lexicon)})
    with replace_output(folder, KIND, {"share": share, "longest": longest, "seed": seed}, force) as fresh:
        for number, path in enumerate(paths):
            pose, start = Pose.read(path.read_bytes()), 0
            hidden = hidden_frames(len(pose.body.data), share, longest, [seed, number])
            for part in pose.header.components:
                columns = slice(start, start := start + len(part.points))
                if part.name in HANDS:
                    pose.body.confidence[hidden, :, columns] = 0
            target = fresh / path.relative_to(lexicon)
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as file:
                pose.write(file)
        shutil.copyfile(lexicon / "index.csv", fresh / "index.csv")
    print(f"wrote {folder}: {len(paths)} clips, hands hidden in {share:.0%} of their frames")
    return 0


def measure(args: argparse.Namespace) -> int:
    """Print the gaps and the table."""
    model = SignCLIP.from_pretrained(args.model)
    examples = list(Task(load_config(args.config)).examples("test"))
    preparation = model.video_processor.prepare
    clips = [read_clip(example.path, example.span, preparation.person) for example in examples]
    mirrors = [example.mirror for example in examples]
    prompts = list(dict.fromkeys(example.text for example in examples))
    truth = np.array([prompts.index(example.text) for example in examples])
    texts = model.embed_text(prompts, normalize=True)

    def right(some: Sequence[PoseClip], fill: int) -> np.ndarray:
        smoothing = dataclasses.replace(preparation.smoothing, fill_gaps=fill)
        prepare = dataclasses.replace(preparation, smoothing=smoothing)
        prepared = [prepare.clip(clip, mirror) for clip, mirror in zip(some, mirrors)]
        frames = model.video_processor.features_of(prepared)
        vectors = model.embed_video_features([model.aligner.cut("", each) for each in frames], normalize=True)
        return np.equal((vectors @ texts.T).argmax(axis=1), truth)

    print(f"{len(clips)} clips, {len(prompts)} prompts, {sum(map(gaps, clips))} gaps of a hand")
    print(f"V2T R@1 (that of the seeds {', '.join(map(str, args.seeds))}); chance: {1 / len(prompts):.3f}")
    print(f"nothing hidden: {right(clips, 0).mean():.3f}")
    for share in args.shares:
        hidden = [
            [hide(clip, share, args.longest, [seed, n]) for n, clip in enumerate(clips)]
            for seed in args.seeds
        ]
        none = np.array([right(some, 0) for some in hidden], dtype=float)
        print(f"{share:.0%} hidden, not filled: {_each(none)}")
        for fill in args.fill:
            filled = np.array([right(some, fill) for some in hidden], dtype=float)
            difference = (filled - none).mean(axis=0)
            low, high = interval_of_mean(difference)
            print(
                f"  fill_gaps {fill}: {_each(filled)}; {difference.mean():+.3f} ({low:+.3f} to {high:+.3f})"
            )
    return 0


def _each(right: np.ndarray) -> str:
    return f"{right.mean():.3f} ({', '.join(f'{one:.3f}' for one in right.mean(axis=1))})"


def gaps(clip: PoseClip) -> int:
    """Gaps of the hands: runs of frames without a hand between frames with it."""
    count = 0
    for name in HANDS:
        there = np.flatnonzero(clip.component(name)[1].any(axis=1))
        count += int((np.diff(there) > 1).sum())
    return count


def hide(clip: PoseClip, share: float, longest: int, seed: Sequence[int]) -> PoseClip:
    """The clip without hands in about this share of its frames."""
    hidden = hidden_frames(len(clip), share, longest, seed)
    data, confidence = clip.data.copy(), clip.confidence.copy()
    for name in HANDS:
        columns = clip.component_slice(name)
        data[hidden, columns], confidence[hidden, columns] = 0, 0
    return clip.with_data(data, confidence)


def hidden_frames(frames: int, share: float, longest: int, seed: Sequence[int]) -> np.ndarray:
    """Which of the frames are hidden, bool [frames]: not the first and the last."""
    rng = np.random.default_rng(seed)
    hidden = np.zeros(frames, dtype=bool)
    while hidden.sum() < min(share * frames, frames - 2):
        start = rng.integers(1, frames - 1)
        hidden[start : min(start + rng.integers(1, longest + 1), frames - 1)] = True
    return hidden


if __name__ == "__main__":
    sys.exit(main())
