#!/usr/bin/env python
"""Write the table of a data set with MediaPipe Holistic poses from the package `sign-language-datasets`.

Get the data: the package downloads it, or says what else a corpus requires. Its data sets are listed at
https://github.com/sign-language-processing/datasets. It installs TensorFlow, which needs another protobuf
version than MediaPipe, so install it in a separate environment and run this script there:

    python -m venv sld && sld/bin/pip install sign-language-datasets importlib_resources omegaconf
    PYTHONPATH=. sld/bin/python scripts/import_sign_language_datasets.py dicta_sign --out data/dicta_sign

Each pose is written as a .pose file; an interrupted run resumes. The package's train, validation and test
become train, valid and test. If it has only one split, whole signers are held out by a hash of their names,
or single clips if signers are unknown. --text is the key of the examples with the signed text, such as text,
gloss or meaning.english.
"""

import argparse
import contextlib
import itertools
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmpt.cli import run_cli

import numpy as np

from mmpt.pose.components import FULL_BODY
from mmpt.pose.writer import pose_of_pixels, shows_somebody, write_once
from mmpt.processors.table_writer import split_by, write_clips
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json, write_json
from mmpt.utils.logging import setup_logging
from mmpt.utils.progress import Bar

log = logging.getLogger(__name__)

SPLITS = {"train": "train", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}
TEXTS = ("text", "gloss", "glosses", "name")
SIGNERS = ("signer", "signer_id", "participant")
SIGNED = ("signed_language", "signedLanguage", "sign_language")
SPOKEN = ("spoken_language", "spokenLanguage")
FACES = {543: 468, 576: 468, 553: 478, 586: 478}
"""Points of a pose -> points of its face (without or with irises, without or with the body in metres)."""


@dataclass
class Corpus:
    """A data set. splits: name -> (number of examples, examples). size: width, height of the videos."""

    splits: Mapping[str, tuple[int, Iterable[Mapping[str, Any]]]]
    size: tuple[int, int] | None = None
    version: str = ""


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and import."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="data set, such as dicta_sign, asl_citizen or sem_lex")
    parser.add_argument("--out", type=Path, required=True, help="folder of table.csv and poses")
    parser.add_argument("--data-dir", type=Path, help="data folder of tensorflow_datasets")
    parser.add_argument("--version", help="version of the data set (default: the newest)")
    parser.add_argument("--pose-files", action="store_true", help="read pose files (required for dgs_types)")
    parser.add_argument("--text", help=f"key of the signed text (default: the first of {', '.join(TEXTS)})")
    parser.add_argument(
        "--signed-language", help="code of the sign language, such as ase (default: the examples')"
    )
    parser.add_argument(
        "--spoken-language", help="code of the spoken language, such as en (default: the examples')"
    )
    parser.add_argument("--size", type=int, nargs=2, help="width and height, if the package has none")
    parser.add_argument("--limit", type=int, help="only the first LIMIT examples of each split")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Convert the missing clips and write the table."""
    setup_logging(logging.INFO)
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit {args.limit}: expected 1 or more.")
    if args.size and not all(0 < pixels < 65536 for pixels in args.size):
        raise UserError(f"--size {args.size[0]} {args.size[1]}: expected a size in pixels, 1 to 65535.")
    corpus = load(args.name, args.version, args.data_dir, args.pose_files)
    corpus.size = corpus.size or (args.size and tuple(args.size))
    _require_same(args, corpus)
    rows: list[dict[str, str]] = []
    empty = 0
    for split, (count, examples) in corpus.splits.items():
        if split not in SPLITS:
            log.warning("the split %r is not one of %s and is skipped", split, ", ".join(SPLITS))
            continue
        taken: set[str] = set()
        for number, example in enumerate(Bar(examples, total=count, desc=split, unit="clip", disable=None)):
            if args.limit is not None and number >= args.limit:
                break
            about = describe(example, args)
            for view, pose in poses_of(example):
                name = f"{about['id']}-{view}" if view else about["id"]
                name = next(n for n in _numbered(name) if n not in taken)
                taken.add(name)
                target = args.out / "poses" / split / f"{quote(name, safe=' +,@')}.pose"
                path = convert(name, pose, target, corpus)
                if path is None:
                    empty += 1
                    continue
                where = os.path.relpath(path, args.out)
                rows.append({**about, "id": name, "path": where, "split": SPLITS[split], "of": about["id"]})
    if empty:
        log.warning("%d clips have no pose and are skipped", empty)
    _split_if_none(rows)
    columns = ("id", "path", "text", "split", "signed_language", "spoken_language", "signer", "gloss")
    kept = [c for c in columns if c in columns[:4] or any(row[c] for row in rows)]
    table = write_clips(args.out, [{c: row[c] for c in kept} for row in rows])
    print(f"wrote {table.path}: {len(table.rows)} clips")
    return 0


def _require_same(args: argparse.Namespace, corpus: Corpus) -> None:
    """Record the data set of the poses in --out. Raises UserError if they are of another one."""
    record = args.out / "import.json"
    current = {
        "data set": args.name,
        "version": corpus.version,
        "size": corpus.size and list(corpus.size),
        "pose files": args.pose_files,
    }
    recorded = _recorded(record)
    known = {
        key: recorded[key] for key in current if recorded.get(key) is not None and current[key] is not None
    }
    differing = [
        f"{key} {value} (now {current[key]})" for key, value in known.items() if value != current[key]
    ]
    if differing:
        raise UserError(
            f"{args.out} holds poses of another run, with {' and '.join(differing)}: give another --out, or "
            "remove it."
        )
    write_json(record, current)


def _recorded(path: Path) -> dict[str, Any]:
    """The record of an earlier import, {} if there is none. Raises UserError for a foreign file."""
    if not path.exists():
        return {}
    content: Any = None
    with contextlib.suppress(ValueError):
        content = read_json(path)
    if not isinstance(content, dict) or "data set" not in content:
        raise UserError(f"{path} was not written by this script: give another --out, or move it away.")
    return content


def _numbered(name: str) -> Iterator[str]:
    """name, name-2, name-3, ..."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def load(name: str, version: str | None, data_dir: Path | None, pose_files: bool) -> Corpus:
    """Download and prepare a data set with the package. Raises UserError if either is missing."""
    try:
        import sign_language_datasets.datasets as collection
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"sign-language-datasets cannot be imported ({error}): `pip install sign-language-datasets "
            "importlib_resources`, in a separate environment (see --help)."
        ) from error
    config = collection.SignDatasetConfig(
        name="mmpt_files" if pose_files else "mmpt_poses",  # not the name of a config of any data set
        version=version,
        include_video=False,
        include_pose="holistic",
        process_pose=not pose_files,
    )
    try:
        builder = tfds.builder(name, config=config, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise UserError(f"{name}: no such data set ({str(error).splitlines()[0]}).") from error
    try:
        builder.download_and_prepare()
    except Exception as error:  # downloads and builders raise errors of many types
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"the package could not prepare {name} ({type(error).__name__}: {reason}). If poses are in a "
            "sequence, as in dgs_types, give --pose-files."
        ) from error
    splits = {
        split: (info.num_examples, tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)))
        for split, info in builder.info.splits.items()
    }
    header = getattr(dict(builder.info.features.items()).get("pose"), "_header", None)
    size = header and (header.dimensions.width, header.dimensions.height)
    return Corpus(splits, size, str(builder.info.version))


def describe(example: Mapping[str, Any], args: argparse.Namespace) -> dict[str, str]:
    """Table columns of an example. Raises UserError if the signed text is missing."""
    keys = (args.text,) if args.text else TEXTS
    if not (text := first(example, keys)):
        raise UserError(
            f"an example ({first(example, ('id',))}) has no {' or '.join(keys)}; its keys are "
            f"{', '.join(sorted(example))}: give the key of the signed text with --text."
        )
    return {
        "id": first(example, ("id",)),
        "text": text,
        "gloss": first(example, ("gloss",)) if keys != ("gloss",) and "text" in example else "",
        "signer": first(example, SIGNERS),
        "signed_language": args.signed_language or first(example, SIGNED),
        "spoken_language": args.spoken_language or first(example, SPOKEN),
    }


def first(example: Mapping[str, Any], keys: Iterable[str]) -> str:
    """The first non-empty value of `keys`, as one line; "a.b" is b of a; a list gives its first item."""
    for key in keys:
        value: Any = example
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None or isinstance(value, Mapping):
            continue
        values = np.asarray(value, dtype=object).ravel().tolist()
        text = values[0].decode("utf-8") if values and isinstance(values[0], bytes) else str(*values[:1])
        if text.strip():
            return " ".join(text.split())
    return ""


def poses_of(example: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name of the view or "", pose) of an example; a pose is a mapping of arrays or the path of a file."""
    views, pose = example.get("views"), example.get("pose")
    if isinstance(views, Mapping) and "pose" in views:  # a sequence is a mapping of lists
        for name, path in zip(views["name"], views["pose"]):
            yield first({"name": name}, ("name",)), path
    elif isinstance(pose, Mapping) and "data" not in pose:
        yield from pose.items()
    elif pose is not None:
        yield "", pose
    else:
        raise UserError(f"an example has no pose; its keys are {', '.join(sorted(example))}.")


def convert(name: str, pose: Any, target: Path, corpus: Corpus) -> Path | None:
    """Write one pose, unless it is there; returns its file, or None where the package has no pose."""
    if not isinstance(pose, Mapping):
        source = Path(os.fsdecode(pose))
        if not str(pose) or not source.is_file():
            return None
        if source.suffix == ".pose":
            return source
        write_once(target, source.read_bytes())
        return target
    data, confidence = np.asarray(pose["data"]), np.asarray(pose["conf"])
    if not len(data):
        return None
    if data.ndim != 4 or data.shape[3] < 3 or confidence.shape != data.shape[:3]:
        raise UserError(
            f"{name}: poses {list(data.shape)} with confidences {list(confidence.shape)} were not expected."
        )
    face = FACES.get(data.shape[2])
    if face is None:
        raise UserError(
            f"{name}: {data.shape[2]} points are no MediaPipe Holistic pose, the kind that is read."
        )
    if corpus.size is None:
        raise UserError("the package does not say how large the pictures are: give --size WIDTH HEIGHT.")
    starts = np.cumsum([0, 33, face, 21, 21]).tolist()
    columns = {part: slice(*starts[n : n + 2]) for n, part in enumerate(FULL_BODY)}  # pose-format's order
    content = pose_of_pixels(
        {part: data[:, 0, where, :3] for part, where in columns.items()},
        {part: confidence[:, 0, where] for part, where in columns.items()},
        float(pose["fps"]),
        *corpus.size,
    )
    try:
        if not shows_somebody(content):
            return None
    except UserError as error:
        raise UserError(f"{name}: as a .pose file: {error}") from error
    write_once(target, content)
    return target


def _split_if_none(rows: list[dict[str, str]]) -> None:
    """If all clips are in one split, split them by signer, or else by example."""
    if len({row["split"] for row in rows}) != 1:
        return
    key = "signer" if len({row["signer"] for row in rows}) >= 3 else "of"
    splits = split_by([row[key] for row in rows])
    for row in rows:
        row["split"] = splits[row[key]]


if __name__ == "__main__":
    sys.exit(main())
