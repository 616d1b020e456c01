#!/usr/bin/env python
"""Build holistic.task, the models of `signclip extract pose --backend tasks`.

    python scripts/fetch_holistic.py

The models come from mediapipe 0.10.21: from the installed package if it has them, else from its wheel, which
pip downloads (36 MB) and which is not installed. Without a network, give the wheel with --wheel. The same
models give the same bytes. Does nothing if the file is there, unless an earlier version built it.
"""

import argparse
import sys
from pathlib import Path

from mmpt.cli import run_cli

from mmpt.extractors.holistic_bundle import (
    build_bundle,
    default_bundle,
    downloaded_models,
    installed_models,
    is_outdated,
    model_hashes,
    wheel_models,
)
from mmpt.utils.files import atomic_write
from mmpt.utils.packages import need_packages


def main(argv: list[str] | None = None) -> int:
    """Parse and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--out", type=Path, help="file to write (default: holistic.task in $SIGNCLIP_CACHE or ~/.cache/mmpt)"
    )
    parser.add_argument("--wheel", type=Path, help="a downloaded wheel of mediapipe 0.10.21")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> None:
    """Write the bundle unless it is there, and print the SHA-256 of its models."""
    out = args.out or default_bundle()
    if (outdated := out.exists() and is_outdated(out)) or not out.exists():
        need_packages("building holistic.task", ("mediapipe",))
        models = wheel_models(args.wheel) if args.wheel else installed_models() or downloaded_models()
        with atomic_write(out) as temporary:
            temporary.write_bytes(build_bundle(models))
        if outdated:
            print(f"{out} was built by an earlier version, whose body was refined in another way: replaced")
    for name, digest in model_hashes(out).items():
        print(f"{digest}  {name}")
    print(out)


if __name__ == "__main__":
    sys.exit(main())
