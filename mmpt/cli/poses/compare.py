"""Compare two extractions of the same videos, and say whether their poses can be mixed.

    signclip poses compare A B [--model MODEL] [--prompts FILE]

A and B are .pose files, or folders whose files have the same names. For each part: the distance in the image
plane of the points that both have (median and 90th percentile, in pixels of A and in shoulder widths of A; of
folders, the median over the clips), and the share of frames in which only one sees it. Recordings of other
frame rates are aligned by time. Estimators are compared on the points that they share.

The last line says whether A and B can be mixed: body and both hands have a median of at most 0.01 shoulder
widths, a 90th percentile of at most 0.05, and are seen by only one in at most 5 % of frames; frame rates
differ by at most 5 %; both have z or none has, unless the model needs none (pose_layout: canonical). With
--model: the cosine of the embeddings has a median of at least 0.99 and a minimum of at least 0.9, and with
--prompts, the first prompt stays the same in at least 95 % of the clips. The face is measured,
but does not count.

Exit status: 0, or 1 if a pair in folders cannot be read, which is named.
"""

import argparse
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpt.cli.command import Command
from mmpt.cli.poses import pose_model
from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging, some_of
from mmpt.utils.text import counted

if TYPE_CHECKING:
    from mmpt.embedding.embedder import SignCLIP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("a", type=Path, metavar="A", help=".pose file or folder")
    parser.add_argument("b", type=Path, metavar="B", help=".pose file or folder of the same videos")
    parser.add_argument(
        "--model", metavar="FOLDER", help="model folder, or org/name on the hub, that embeds the poses"
    )
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="prompts, one per line: does the first prompt change?"
    )
    parser.add_argument(
        "--person",
        choices=["first", "largest", "tracked"],
        help="which of several people is compared (default: the model's, else first)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with the differences of each clip")


def run(args: argparse.Namespace) -> int:
    """Compare the files, and print differences and verdict."""
    setup_logging(logging.WARNING)
    if args.prompts and not args.model:
        raise UserError("--prompts needs --model FOLDER, the model that ranks them.")
    from mmpt.pose import comparison
    from mmpt.pose.components import CANONICAL

    pairs, alone = comparison.match(args.a, args.b)
    model = pose_model(args.model) if args.model else None
    person = args.person or (model.video_processor.prepare.person if model else "first")
    clips, errors = [], []
    for pair in pairs:
        try:
            clips.append(comparison.compare_files(*pair, person))
        except UserError as error:
            if not args.a.is_dir():
                raise
            errors.append(str(error))
            print(f"error: {error}", file=sys.stderr)
    if not clips:
        return 1
    found = comparison.summary(clips) | {
        "unmatched": [str(file) for file in alone],
        "unreadable": errors,
    }
    needs_depth = model is None or model.video_processor.prepare.pose_layout != CANONICAL
    reasons = comparison.why_not_mixed(found, needs_depth)
    if model:
        readable = {clip.name for clip in clips}
        found["embeddings"] = _embeddings(
            model, [pair for pair in pairs if pair[0] in readable], args.prompts
        )
        reasons += found["embeddings"].pop("reasons")
    found["mixed"] = {"can be": not reasons, "reasons": reasons}
    if args.json:
        print(json.dumps(found | {"each": [asdict(clip) for clip in clips]}, indent=2))
    else:
        _print(found, reasons)
    return 1 if errors else 0


def _print(found: dict[str, Any], reasons: list[str]) -> None:
    from mmpt.embedding import pose_comparison
    from mmpt.pose.comparison import table

    print(table(found))
    if found["unmatched"]:
        print(
            f"{counted(len(found['unmatched']), 'file has', 'files have')} no counterpart: "
            f"{some_of(found['unmatched'])}"
        )
    if found["unreadable"]:
        print(f"{counted(len(found['unreadable']), 'pair')} cannot be read")
    if "embeddings" in found:
        print(pose_comparison.text(found["embeddings"]))
        if found["embeddings"]["other prompt"]:
            print(f"another first prompt: {some_of(found['embeddings']['other prompt'])}")
        for refusal in found["embeddings"]["refused"][:3]:
            print(f"refused by the model: {refusal}")
    print(f"A and B cannot be mixed: {'; '.join(reasons)}" if reasons else "A and B can be mixed")


def _embeddings(
    model: "SignCLIP", pairs: list[tuple[str, Path, Path]], prompts: Path | None
) -> dict[str, Any]:
    from mmpt.embedding.pose_comparison import compare_embeddings, why_not_mixed
    from mmpt.utils.text import read_lines

    lines = [line for line in read_lines(prompts) if line.strip()] if prompts else []
    if prompts and not lines:
        raise UserError(f"{prompts}: it holds no prompts; expected one per line.")
    found = compare_embeddings(model, pairs, lines)
    return found | {"reasons": why_not_mixed(found)}


main = Command("poses compare", __doc__, add_arguments, run)
