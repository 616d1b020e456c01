#!/usr/bin/env python
"""Write the fingerspelling lexicon as another pose estimator would have: its points, in 2-D, with noise.

    python scripts/relabel_lexicon.py --as coco_wholebody_133 --out data/lexicon_coco
    signclip evaluate projects/signclip/test_fslex_canonical.yaml dataset.vfeat_dir=data/lexicon_coco

Each point of the estimator that MediaPipe Holistic has too (mmpt/pose/estimators.py) gets its x, y and
confidence; the others are missing. `--as holistic` keeps the points of Holistic, in 3-D. --noise adds
independent Gaussian noise of that many pixels (standard deviation along each axis) to each point of each
frame; with --constant, each point is shifted alike in all frames and clips. The folder has an index.csv, as
the lexicon has.
"""

import argparse
import copy
import shutil
import sys
import zlib
from pathlib import Path

from mmpt.cli import run_cli

import numpy as np
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderDimensions

from mmpt.pose.clip import PoseClip
from mmpt.pose.estimators import ESTIMATORS
from mmpt.pose.reader import read_pose
from mmpt.processors.fingerspelling import find_lexicon, read_index
from mmpt.utils.errors import UserError
from mmpt.utils.outputs import FORCE_HELP, OutputKind, replace_output

HOLISTIC = "holistic"
KIND = OutputKind(
    "a lexicon", "signclip-relabelled-lexicon", ".lexicon.files.json", ("index.csv",), alone=True
)


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--as", dest="estimator", choices=[HOLISTIC, *ESTIMATORS], required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder to write (created if missing)")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation in pixels (default: 0)")
    parser.add_argument("--constant", action="store_true", help="the noise of a point is the same everywhere")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)
    return run_cli(write, parser.parse_args(argv))


def write(args: argparse.Namespace) -> int:
    """Write the poses and index.csv."""
    if not 0 <= args.noise < 1000:
        raise UserError(f"--noise {args.noise:g}: expected pixels, from 0 to 1000.")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: expected 0 or more.")
    lexicon = find_lexicon(None)
    paths = {row.path for row in read_index(lexicon)}
    of = {"as": args.estimator, "noise": args.noise, "constant": args.constant, "seed": args.seed}
    with replace_output(args.out, KIND, of, args.force) as fresh:
        for path in sorted(paths):
            name = path.relative_to(lexicon)
            own = [] if args.constant else [zlib.crc32(name.as_posix().encode())]
            pose = Pose.read(path.read_bytes())
            if args.estimator != HOLISTIC:
                pose = relabelled(read_pose(path), args.estimator, pose.header.dimensions.height)
            add_noise(pose, args.noise, np.random.default_rng([args.seed, *own]), args.constant)
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            with open(fresh / name, "wb") as file:
                pose.write(file)
        shutil.copyfile(lexicon / "index.csv", fresh / "index.csv")
    print(f"wrote {args.out}: {len(paths)} clips as {args.estimator}, noise of {args.noise:g} px")
    return 0


def relabelled(clip: PoseClip, name: str, height: int) -> Pose:
    """A clip of Holistic in the points of another estimator."""
    estimator = ESTIMATORS[name]
    columns = {point: i for i, point in enumerate(estimator.points)}
    data = np.zeros((len(clip), 1, len(columns), 2), np.float32)
    confidence = np.zeros(data.shape[:3], np.float32)
    for target, source in estimator.sources.items():
        if target in clip.layout:
            column = clip.index(*target)
            data[:, 0, columns[source]] = clip.data[:, column, :2]
            confidence[:, 0, columns[source]] = clip.confidence[:, column]
    size = PoseHeaderDimensions(round(clip.width), height, 0)
    header = PoseHeader(0.2, size, copy.deepcopy(list(estimator.parts)))
    return Pose(header, NumPyPoseBody(clip.fps, data, confidence))


def add_noise(pose: Pose, pixels: float, rng: np.random.Generator, constant: bool = False) -> None:
    """Add noise to x and y of the points that are there, in place; to z, if there is one, in its unit."""
    shape = pose.body.data.shape[2:] if constant else pose.body.data.shape
    noise = rng.standard_normal(shape).astype(np.float32) * np.float32(pixels)
    if noise.shape[-1] == 3:
        noise[..., 2] /= pose.header.dimensions.width  # z is a fraction of the image width
    pose.body.data = pose.body.data + noise * (pose.body.confidence > 0)[..., None]


if __name__ == "__main__":
    sys.exit(main())
