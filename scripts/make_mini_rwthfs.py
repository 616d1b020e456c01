#!/usr/bin/env python
"""Make a miniature of the RWTH database, to try everything without the data (`make mini-rwthfs`).

clips      videos of figures drawn from real poses of the fingerspelling lexicon, two cameras each
poses      the poses of these figures, for videos in which MediaPipe detects nobody
videoclip  an untrained checkpoint with the shape of VideoCLIP's

Stand-in data is marked, and the table of results notes it.
"""

import argparse
import dataclasses
import logging
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from mmpt.cli import run_cli

from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write
from mmpt.utils.logging import setup_logging
from mmpt.utils.stand_in import mark_stand_in, stand_in_note

if TYPE_CHECKING:
    from mmpt.processors.rwthfs_names import ClipName

log = logging.getLogger("mini_rwthfs")

SIGNERS = ["asq", "mfs", "psr"]  # right-handed, one hand, all 26 letters, 25 frames per second
FPS = 25
SIZES = {"cam1": (320, 240), "cam2": (352, 288)}
NOTE = "drawn figures of the fingerspelling lexicon in place of the RWTH videos"
RENDERED = "rendered"


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and run a step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    clips = steps.add_parser("clips", help="draw the videos")
    clips.add_argument(
        "--out", type=Path, required=True, help="folder for the .mpg files and rendered/*.pose"
    )
    clips.add_argument(
        "--signers", nargs="+", default=SIGNERS, help="sign languages of the lexicon, one signer each"
    )
    clips.add_argument(
        "--letters", default="ABCDEFGHIJKLMNOPQRSTUVWXYZ", help="letters to draw (default: all 26)"
    )
    clips.add_argument(
        "--frames", type=int, default=24, help="maximum number of frames of a video (default: %(default)s)"
    )
    poses = steps.add_parser("poses", help="add the poses that MediaPipe did not detect")
    poses.add_argument("--clips", type=Path, required=True, help="folder of the step clips")
    poses.add_argument("--out", type=Path, required=True, help="folder of extracted poses")
    videoclip = steps.add_parser("videoclip", help="make the stand-in checkpoint")
    videoclip.add_argument(
        "--config", default="projects/signclip/test_rwthfs_zs.yaml", help="config with the checkpoint"
    )
    videoclip.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the config")
    args = parser.parse_args(argv)
    setup_logging(logging.INFO)
    return run_cli({"clips": make_clips, "poses": fill_poses, "videoclip": make_checkpoint}[args.step], args)


def make_clips(args: argparse.Namespace) -> int:
    """Draw two videos and a pose for each letter of each signer, unless they exist."""
    from mmpt.processors.fingerspelling import find_lexicon, read_index, write_out
    from mmpt.processors.rwthfs_names import GESTURES, ClipName

    rows = read_index(find_lexicon(None))
    if unknown := sorted(set(args.signers) - {row.language for row in rows}):
        raise UserError(f"--signers: there is no sign language {', '.join(unknown)} in the lexicon.")
    if args.frames < 1:
        raise UserError(f"--frames {args.frames}: expected 1 or more.")
    if not args.letters or not set(args.letters) <= set(GESTURES):
        raise UserError(f"--letters {args.letters!r}: expected letters of {', '.join(GESTURES)}.")
    if args.out.is_dir() and any(args.out.iterdir()) and stand_in_note(args.out) != NOTE:
        raise UserError(f"{args.out} holds files of others, such as the real videos: give another --out.")
    numbers = {letter: GESTURES.index(letter) + 1 for letter in args.letters}
    wanted = [
        (row.path, ClipName(args.signers.index(row.language) + 1, numbers[letter], 1, "cam2"))
        for row in rows
        if row.language in args.signers and (letter := write_out(row.letter)) in numbers
    ]
    mark_stand_in(args.out, NOTE)
    todo = [(path, name) for path, name in wanted if not _pose_path(args.out, name).exists()]
    with ProcessPoolExecutor() as pool:
        jobs = [pool.submit(draw, path, name, args.out, args.frames) for path, name in todo]
        problems = [problem for job in jobs if (problem := job.result())]
    for problem in problems:
        log.warning("skipped: %s", problem)
    made = len(todo) - len(problems)
    log.info("%s: %d clips drawn, twice each, %d already existed", args.out, made, len(wanted) - len(todo))
    return 0


def _pose_path(folder: Path, name: "ClipName") -> Path:
    return folder / RENDERED / f"{name}.pose"


def draw(source: Path, name: "ClipName", folder: Path, frames: int) -> str | None:
    """Draw one clip for both cameras. Returns an error message, or None.

    The pose is written last: if it exists, the clip is complete.
    """
    from mmpt.extractors import rendering
    from mmpt.pose.components import POSE, RIGHT_HAND

    try:
        whole = rendering.sample_middle(rendering.read_drawable(source), FPS, frames)
        hand = whole.get_components([RIGHT_HAND])
        body = rendering.fit(whole, rendering.box_of(whole, POSE), *SIZES["cam2"])
        close = rendering.fit(hand, rendering.box_of(hand, RIGHT_HAND), *SIZES["cam1"])
    except UserError as error:
        return f"{name}: {error}"
    rendering.write_mpg(folder / f"{name}.mpg", rendering.pictures(body), FPS)
    cam1 = dataclasses.replace(name, camera="cam1")
    rendering.write_mpg(folder / f"{cam1}.mpg", rendering.pictures(close, thickness=8), FPS)
    with atomic_write(_pose_path(folder, name)) as temporary, open(temporary, "wb") as file:
        body.write(file)
    return None


def fill_poses(args: argparse.Namespace) -> int:
    """Copy the poses that were not extracted, and mark the folder if there are any."""
    rendered = sorted((args.clips / RENDERED).glob("*.pose"))
    if not rendered:
        raise UserError(f"--clips: there are no poses in {args.clips / RENDERED}: run the step clips first.")
    missing = [path for path in rendered if not (args.out / path.name).exists()]
    for path in missing:
        with atomic_write(args.out / path.name) as temporary:
            shutil.copyfile(path, temporary)
    same = sum((args.out / path.name).read_bytes() == path.read_bytes() for path in rendered)
    if same:
        mark_stand_in(
            args.out,
            f"{same} of {len(rendered)} poses are those the figures were drawn from: MediaPipe saw nobody",
        )
    log.info("%s: %d poses added, %d of %d are not MediaPipe's", args.out, len(missing), same, len(rendered))
    return 0


def make_checkpoint(args: argparse.Namespace) -> int:
    """Save untrained towers as the checkpoint that the config names."""
    import torch

    from mmpt.config import load_config
    from mmpt.tasks import Task

    task = Task(load_config(args.config, args.overrides))
    path = task.checkpoint_path()
    if path.exists():
        log.info("%s exists already: not changed", path)
        return 0
    torch.manual_seed(task.seed)
    weights = {f"mmmodel.{name}": tensor for name, tensor in task.build_model().state_dict().items()}
    mark_stand_in(path.parent, "untrained towers in place of VideoCLIP's checkpoint")
    with atomic_write(path) as temporary:
        torch.save({"model": weights}, temporary)
    log.info("%s: a stand-in for VideoCLIP", path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
