#!/usr/bin/env python
"""Prepare the RWTH German Fingerspelling Database.

`python scripts/prepare_rwthfs.py --videos DIR --out data/rwthfs` checks the names of the videos and writes
the split files and the gesture ids file that the rwthfs configs read.
"""

import argparse
import sys
from pathlib import Path

from mmpt.cli import run_cli

from mmpt.processors.rwthfs_names import (
    Inventory,
    describe_split,
    gesture_ids_text,
    make_links,
    published_split,
    signer_split,
    take_inventory,
)
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import write_text
from mmpt.utils.stand_in import mark_stand_in, stand_in_note

_WHERE = "Request the database at https://www-i6.informatik.rwth-aachen.de/aslr/fingerspelling.php."
_MAX_SHOWN = 20


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and prepare."""
    parser = argparse.ArgumentParser(
        description="Write the split files of the RWTH German Fingerspelling Database."
    )
    parser.add_argument("--videos", required=True, type=Path, help="folder of the .mpg files, at any depth")
    parser.add_argument(
        "--out", type=Path, default=Path("data/rwthfs"), help="folder to write into (default: %(default)s)"
    )
    parser.add_argument(
        "--by-signer", action="store_true", help="split by signer instead of the published split"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="write nothing if there is any problem with the videos",
    )
    parser.add_argument(
        "--links",
        action="store_true",
        help="also create folders of links for extraction: videos (all) and videos_cam2",
    )
    parser.add_argument("--force", action="store_true", help="replace files in --out with other content")
    return run_cli(prepare, parser.parse_args(argv))


def prepare(args: argparse.Namespace) -> int:
    """Check the videos and write the split files."""
    if not args.videos.is_dir():
        raise MissingDataError(
            f"--videos: there is no folder {args.videos}: expected the one with the .mpg files. {_WHERE}"
        )
    inventory = take_inventory(args.videos, args.out)
    _report(inventory, args.strict)
    if not inventory.stems:
        raise MissingDataError(f"{args.videos}: no video with a name such as 3_10_1_cam2.mpg. {_WHERE}")
    split = (signer_split if args.by_signer else published_split)(inventory.stems)
    lists = {"all": inventory.stems, **split}
    files = {
        args.out / f"{name}.txt": "".join(f"{stem}\n" for stem in stems) for name, stems in lists.items()
    }
    files[args.out / "gesture_ids.txt"] = gesture_ids_text()
    _write(files, args.force)
    if note := stand_in_note(args.videos):
        mark_stand_in(args.out, note)
    if args.links:
        make_links(inventory.paths, args.out / "videos")
        make_links(inventory.paths, args.out / "videos_cam2", "cam2")
    print(f"{len(inventory.stems)} videos, split {'by signer' if args.by_signer else 'as published'}:")
    print("\n".join(f"  {line}" for line in describe_split(split)))
    print(f"wrote {args.out}: {', '.join(path.name for path in files)}")
    return 0


def _report(inventory: Inventory, strict: bool) -> None:
    for problem in inventory.problems[: None if strict else _MAX_SHOWN]:
        print(f"warning: {problem}", file=sys.stderr)
    more = len(inventory.problems) - _MAX_SHOWN
    if more > 0 and not strict:
        print(f"warning: and {more} more (--strict lists them all)", file=sys.stderr)
    if inventory.problems and strict:
        raise UserError(
            f"{len(inventory.problems)} problems, listed above, and --strict: nothing was written."
        )


def _write(files: dict[Path, str], force: bool) -> None:
    """Write all files atomically, or none if one of them exists with other content."""
    other = [path for path, text in files.items() if path.exists() and path.read_bytes() != text.encode()]
    if other and not force:
        raise UserError(
            f"{', '.join(str(path) for path in other)}: exists with other content; nothing was "
            "written. Give --force to replace it, or another --out."
        )
    for path, text in files.items():
        if not path.exists() or path in other:
            write_text(path, text)


if __name__ == "__main__":
    sys.exit(main())
