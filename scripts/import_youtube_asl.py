#!/usr/bin/env python
r"""Write the table of YouTube-ASL (about 1,000 hours of captioned ASL videos; Uthus et al., 2023).

Get the data: the list of 11,093 video ids from
https://github.com/google-research/google-research/tree/master/youtube_asl; the videos and their captions stay
with their owners on YouTube and under its terms. With yt-dlp, for instance:

    yt-dlp -a youtube_asl_video_ids.txt --write-subs --sub-langs "en.*" --sub-format json3/vtt \
      -o "videos/%(id)s.%(ext)s"
    signclip extract pose --in videos --out data/youtube_asl/poses
    python scripts/import_youtube_asl.py --ids youtube_asl_video_ids.txt --subtitles videos \
      --poses data/youtube_asl/poses --out data/youtube_asl

Reads ID.en.json3 or ID.en.vtt (any variant of English, see --language) and ID.pose. Use the captions that
people wrote (--write-subs): the automatic ones repeat each line. The corpus has no splits and names no
signers: videos are assigned to train, valid and test by a hash of their id. Videos that are gone, have no
captions or are not in the list are counted.
"""

import argparse
import sys
from pathlib import Path

from mmpt.cli import run_cli
from mmpt.cli.table import write

from mmpt.processors.caption_table import CaptionFiles, TableRules, caption_rows
from mmpt.processors.recording_files import find_recordings
from mmpt.processors.split_rules import SplitRule
from mmpt.timed_text import Findings
from mmpt.utils.errors import UserError
from mmpt.utils.logging import some_of
from mmpt.utils.text import read_lines


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and import."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", type=Path, required=True, help="youtube_asl_video_ids.txt")
    parser.add_argument("--subtitles", type=Path, required=True, help="folder of the captions")
    parser.add_argument("--poses", type=Path, required=True, help="folder of the poses")
    parser.add_argument("--out", type=Path, required=True, help="folder of table.csv")
    parser.add_argument("--language", default="en", help="language of the captions (default: %(default)s)")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Read the captions of the listed videos and write the table."""
    ids = {line for line in read_lines(args.ids) if line}
    if wrong := sorted(name for name in ids if len(name) != 11):
        raise UserError(f"{args.ids}: expected ids of 11 characters, one a line, got {some_of(wrong)}.")
    table, findings = args.out / "table.csv", Findings()
    names = {Path(recording.name).name for recording in find_recordings(args.poses, ".pose")}
    missing, others = sorted(ids - names), sorted(names - ids)
    if not ids & names:
        raise UserError(f"{args.poses}: it has no pose of the {len(ids)} ids, such as {min(ids)}.pose.")
    files = CaptionFiles(args.subtitles, (".json3", ".vtt"), args.language)
    values = {"signed_language": "ase", "spoken_language": "en"}
    rules = TableRules(table, SplitRule(), suffix=".pose", values=values)
    rows = caption_rows(args.poses, files, rules, findings)
    findings.add("ids without a pose, left out", some_of(missing), len(missing))
    findings.add("videos that are not in the list, left out", some_of(others), len(others))
    write(table, [row for row in rows if Path(row["path"]).stem in ids], findings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
