#!/usr/bin/env python
"""Interrupt commands at random moments, repeat them, and compare with an uninterrupted run.

    python scripts/faults.py --trials 30 --seed 1 --out runs/faults

Each trial takes a command (extract features, train, evaluate with an empty cache, convert, embed, spot, build
a search index, exact and approximate) and a fault: a disk that is full at a random size (a tmpfs as root,
otherwise a file size limit), or SIGKILL, SIGTERM or SIGINT at a random moment. The first trials are those of
a full disk, one of each command. After the fault no file may be half-written, and a full disk must give exit
status 2. The repeated command must succeed, give the results of an uninterrupted run, and leave no temporary
file. Writes faults.json. Exit status 1 if any trial failed.
Takes about half a minute per trial on two cores.
"""

import argparse
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpt.cli import run_cli

import numpy as np
import torch

from mmpt.processors.fingerspelling import find_lexicon
from mmpt.utils.checkpoint import load_state_dict_file
from mmpt.utils.errors import UserError
from mmpt.utils.files import write_json
from mmpt.utils.logging import setup_logging
from mmpt.utils.progress import Bar

ROOT = Path(__file__).resolve().parents[1]
FIXTURE = ROOT / "tests" / "data" / "mmfusion"
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
FAULTS = ["disk full", *SIGNALS]
TINY = """
dataset:
  meta_processor: FingerspellingMetaProcessor
  video_processor: PoseProcessor
  bert_name: {bert}
  pose_components: [RIGHT_HAND_LANDMARKS]
  augment2d: true
  max_video_len: 32
  max_len: 24
  letters: [A, B, C, D, E, F]
  train_languages: [svk, swl, psr]
  valid_languages: [asq]
  test_languages: [gsg]
model: {{num_hidden_video_layers: 2, vfeat_dim: 63}}
fairseq:
  common: {{log_interval: 1000, seed: 7}}
  dataset: {{batch_size: 4}}
  optimization: {{lr: [1.0e-03], optimizer: adam, lr_scheduler: polynomial_decay, total_num_update: 1000,
    warmup_updates: 2, max_epoch: 12}}
  checkpoint: {{no_epoch_checkpoints: true}}
"""
log = logging.getLogger("faults")


@dataclass(frozen=True)
class Command:
    """A command to interrupt.

    arguments(folder): python's arguments, with all files in `folder`. results(folder): what to compare.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    results: Callable[[Path], dict[str, Any]]


def commands(inputs: Path) -> list[Command]:
    """What is interrupted; `inputs` gets the videos, the config and the trained model they need."""
    from benchmarks.extract import write_video

    videos, config = inputs / "videos", inputs / "tiny.yaml"
    videos.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        if not (videos / f"{number}.mp4").is_file():
            write_video(videos / f"{number}.mp4", seconds=1 + number, seed=number)
    config.write_text(TINY.format(bert=FIXTURE / "bert"))
    trained = inputs / "trained"
    weights = trained / "checkpoint_best.pt"

    def train(folder: Path) -> list[str]:
        where = [f"fairseq.checkpoint.save_dir={folder}", f"dataset.cache_dir={inputs / 'cache'}"]
        return ["-m", "mmpt", "train", "--in-process", str(config), *where]

    def evaluate(folder: Path) -> list[str]:
        where = [f"eval.save_path={folder / 'eval'}", f"dataset.cache_dir={folder / 'cache'}"]
        return ["-m", "mmpt.cli.evaluate", str(config), *where, f"fairseq.common_eval.path={weights}"]

    def extract(folder: Path) -> list[str]:
        where = ["--in", str(videos), "--out", str(folder / "s3d")]
        return ["-m", "mmpt.cli.extract", "s3d", "--weights", "random:0", *where]

    def convert(folder: Path) -> list[str]:
        return [
            "-m",
            "mmpt.cli.convert",
            str(weights),
            "--config",
            str(config),
            "--out",
            str(folder / "model"),
        ]

    def embed(folder: Path) -> list[str]:
        source = ["--model", str(weights), "--in", str(find_lexicon(None) / "ase"), "--workers", "0"]
        return [
            "-m",
            "mmpt",
            "embed",
            *source,
            "--window",
            "200",
            "--stride",
            "40",
            "--out",
            str(folder / "e"),
        ]

    def spot(folder: Path) -> list[str]:
        texts = inputs / "texts.txt"
        texts.write_text("A\nB\nC\n", encoding="utf-8")
        recordings = sorted((find_lexicon(None) / "ase").glob("*.pose"))[:3]
        search = ["--model", str(weights), "--texts", str(texts), "--threshold", "-1", "--lengths", "0.4"]
        return ["-m", "mmpt", "spot", *map(str, recordings), *search, "--out", str(folder / "spotted")]

    def search(kind: str) -> Callable[[Path], list[str]]:
        source = ["-m", "mmpt", "search", "build", str(_vectors(inputs / "vectors")), "--kind", kind]
        return lambda folder: [*source, "--out", str(folder / "index")]

    if not weights.is_file():
        log.info("training the model that is evaluated and converted")
        status = _start(train(trained)).wait()
        if status:
            raise UserError(f"the model that the trials need could not be trained (exit status {status}).")
    return [
        Command("extract", extract, lambda folder: _arrays(folder / "s3d")),
        Command("train", train, lambda folder: dict(load_state_dict_file(folder / "checkpoint_last.pt"))),
        Command("evaluate", evaluate, lambda folder: _arrays(folder / "eval")),
        Command(
            "convert", convert, lambda folder: dict(load_state_dict_file(folder / "model/model.safetensors"))
        ),
        Command("embed", embed, lambda folder: _arrays(folder / "e")),
        Command("spot", spot, lambda folder: _spotted(folder / "spotted")),
        Command("search flat", search("flat"), lambda folder: _arrays(folder / "index")),
        Command("search hnsw", search("hnsw"), lambda folder: _arrays(folder / "index")),
    ]


def _vectors(folder: Path) -> Path:
    """A folder with 4,000 random embeddings and their names."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.random.default_rng(0).normal(size=(4000, 64)).astype(np.float32)
    np.save(folder / "embeddings.npy", vectors)
    write_json(folder / "ids.json", [f"clip {number}" for number in range(len(vectors))])
    return folder


def _arrays(folder: Path) -> dict[str, Any]:
    return {path.name: np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}


def _spotted(folder: Path) -> dict[str, Any]:
    """The detections, and the peaks of each recording."""
    found: dict[str, Any] = {path.name: path.read_text() for path in sorted(folder.glob("*.csv"))}
    for path in sorted((folder / "peaks").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            found |= {f"{path.stem} {key}": arrays[key] for key in arrays.files if key != "about"}
    return found


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    if not one or one.keys() != other.keys():
        return False
    for name in one:
        first, second = np.asarray(one[name]), np.asarray(other[name])
        if not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
            return False
    return True


def _start(arguments: list[str], largest_file: int | None = None) -> subprocess.Popen[bytes]:
    def limit() -> None:
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write fails instead
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # Python 3.11 would keep half a .pyc file
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=environment, preexec_fn=limit, stdout=quiet, stderr=quiet
    )


def damaged(folder: Path) -> list[str]:
    """Damaged or half-written visible files under `folder`."""
    found = []
    for path in sorted(folder.rglob("[!.]*")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            if path.suffix in (".pt", ".safetensors"):
                load_state_dict_file(path)
            elif path.suffix == ".npy":
                np.load(path, allow_pickle=False)
            elif path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as arrays:
                    list(arrays.values())
            elif path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
        except (UserError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            if not path.name.endswith(".tmp"):  # the temporary name that fairseq uses
                found.append(f"{path.name}: {error}")
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary files under `folder`."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if ".tmp" in path.name]


def trial(
    command: Command, fault: str, folder: Path, whole: dict[str, Any], length: float, rng: random.Random
) -> dict:
    """One fault and one restart. length: seconds of the uninterrupted run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found: dict[str, Any] = {"command": command.name, "fault": fault}
    mounted = False
    if fault == "disk full":
        size = int(rng.uniform(0.02, 0.95) * whole["bytes"])
        found["bytes"] = size
        mounted = _mount(folder, size)
        process = _start(command.arguments(folder), None if mounted else size)
        found["status"] = process.wait(timeout=600)
    else:
        found["after"] = round(rng.uniform(0, length), 2)
        process = _start(command.arguments(folder))
        time.sleep(found["after"])
        process.send_signal(SIGNALS[fault])
        found["status"] = process.wait(timeout=600)
    try:
        found["damaged"] = damaged(folder)
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=4g", str(folder)], check=True)
        found["restart"] = _start(command.arguments(folder)).wait(timeout=600)
        found["same"] = found["restart"] == 0 and _same(whole["results"], command.results(folder))
        found["leftovers"] = leftovers(folder)
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)
    told = fault != "disk full" or found["status"] == 2
    found["ok"] = found["same"] and told and not found["damaged"] and not found["leftovers"]
    return found


def _mount(folder: Path, size: int) -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={max(size, 16384)}", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def run(args: argparse.Namespace) -> int:
    """Run all trials; returns 1 if any failed."""
    setup_logging(logging.INFO)
    torch.set_num_threads(1)
    rng = random.Random(args.seed)
    todo, wholes = commands(args.out / "inputs"), {}
    for command in todo:
        folder = args.out / "whole" / command.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        begin = time.monotonic()
        status = _start(command.arguments(folder)).wait()
        if status:
            raise UserError(f"{command.name} failed with exit status {status} without a fault.")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        results = command.results(folder)
        wholes[command.name] = {"results": results, "bytes": size, "seconds": time.monotonic() - begin}
    trials = []
    for number in Bar(range(args.trials), unit="trial"):
        command, fault = todo[number % len(todo)], FAULTS[(number // len(todo)) % len(FAULTS)]
        whole = wholes[command.name]
        found = trial(command, fault, args.out / "trial", whole, whole["seconds"], rng)
        trials.append(found)
        write_json(args.out / "faults.json", {"seed": args.seed, "trials": trials})
        if not found["ok"]:
            log.error("%s", found)
    bad = sum(not found["ok"] for found in trials)
    full = sum(found["fault"] == "disk full" for found in trials)
    torn, left = (sum(bool(found[what]) for found in trials) for what in ("damaged", "leftovers"))
    print(
        f"faults: {len(trials)} trials (seed {args.seed}; {full} of a full disk), {len(trials) - bad} "
        f"ended like an uninterrupted run, {torn} with a half-written file, {left} with temporary files "
        "left"
    )
    return int(bad > 0)


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=32,
        help="number of trials (default: 32, each command with each fault)",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of moments and sizes (default: 1)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(os.environ.get("SIGNCLIP_RUNS", "runs"), "faults"),
        help="folder to write",
    )
    args = parser.parse_args(argv)
    args.out = args.out.resolve()
    return run_cli(run, args)


if __name__ == "__main__":
    sys.exit(main())
