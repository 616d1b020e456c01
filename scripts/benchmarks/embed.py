"""Embedding thousands of pose files with `signclip embed`, against other ways.

The peer is what a competent user would write with the usual libraries: a torch DataLoader with workers,
batches padded to their longest clip, and transformers' BertModel (SDPA, inference mode) with the weights of
the same model. It computes the features with mmpt's functions from the columns of `Pose.read` that they need,
without checks, and saves the vectors with numpy.save. Both run in turn, in one process with the model in
memory. Processor time includes the workers.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import median_ratio
from benchmarks.peer_embedding import PeerTowers, embed_with_dataloader
from mmpt.config import load_config
from mmpt.embedding.clip_loader import ClipJob, folder_jobs
from mmpt.embedding.embedder import SignCLIP
from mmpt.embedding.run import EmbedOptions, embed_clips
from mmpt.models import load_tokenizer
from mmpt.models.folder import LoadedModel
from mmpt.processors.fingerspelling import find_lexicon
from mmpt.tasks import Task
from mmpt.utils.allocator import keep_freed_memory
from mmpt.utils.parallel import cores

AGAINST = {
    "peer": "a DataLoader and transformers' BertModel, padded to the longest of the batch",
    "plain": "one pose at a time, read and embedded in turn",
}
TOLERANCE = 1e-5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--config", default="projects/signclip/fslex_demo.yaml", help="untrained model")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="change the config")
    parser.add_argument(
        "--clips", type=int, default=3000, help="number of pose files (the lexicon's, repeated)"
    )
    parser.add_argument("--plain", type=int, default=500, help="files in the plain loop (evenly spaced)")
    parser.add_argument("--workers", type=int, default=cores(), help="processes that read")
    parser.add_argument("--repeats", type=int, default=5, help="alternating repeats (default 5)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Time both ways and compare their embeddings."""
    keep_freed_memory()
    config = load_config(options.config, options.set)
    tokenizer = load_tokenizer(config.dataset.bert_name)
    torch.manual_seed(0)
    parts = LoadedModel(Task(config).build_model().eval(), config.model, config.dataset, tokenizer)
    model = SignCLIP(parts)
    with tempfile.TemporaryDirectory() as name:
        jobs = _jobs(Path(name), options.clips)
        compared = jobs
        if options.against == "plain":
            compared = [jobs[i] for i in np.linspace(0, len(jobs) - 1, options.plain).astype(int)]
        ways = {"ours": _ours(model, jobs, Path(name), options.workers)}
        ways[options.against] = _other(options, model, compared, Path(name))
        found = _alternate(ways, options.repeats)
    rows = [jobs.index(job) for job in compared]
    apart = float(np.abs(found["ours"].pop("vectors")[rows] - found[options.against].pop("vectors")).max())
    if apart > TOLERANCE:
        raise RuntimeError(f"the vectors differ by {apart}")
    for name, times in found.items():
        count = len(jobs) if name == "ours" else len(compared)
        times["wall"], times["cpu"] = ([t / count for t in times[clock]] for clock in ("wall", "cpu"))
    return _report(options, found, len(jobs), apart)


def _jobs(folder: Path, clips: int) -> list[ClipJob]:
    """A folder of links to copies of the lexicon's files."""
    poses = folder / "poses"
    poses.mkdir()
    sources = sorted(find_lexicon(None).rglob("*.pose"))
    for number in range(clips):
        os.link(_copy(sources, number, folder), poses / f"{number:06d}.pose")
    return folder_jobs(poses, ".pose", poses / "embeddings")


def _ours(model: SignCLIP, jobs: list[ClipJob], folder: Path, workers: int) -> Callable[[], np.ndarray]:
    how = EmbedOptions(workers=workers, show_progress=False)

    def embed() -> np.ndarray:
        shutil.rmtree(folder / "ours", ignore_errors=True)
        return embed_clips(model, jobs, folder / "ours", {}, options=how).vectors

    return embed


def _other(
    options: argparse.Namespace, model: SignCLIP, jobs: list[ClipJob], folder: Path
) -> Callable[[], np.ndarray]:
    paths = [job.path for job in jobs]
    if options.against == "plain":
        return lambda: np.concatenate([model.embed_pose([path]) for path in paths])
    towers = PeerTowers(model)

    def embed() -> np.ndarray:
        vectors = embed_with_dataloader(towers, model.video_processor, paths, options.workers)
        np.save(folder / "peer.npy", vectors)
        return vectors

    return embed


def _alternate(ways: dict[str, Callable[[], np.ndarray]], repeats: int) -> dict[str, dict[str, Any]]:
    """Vectors, and wall and processor seconds (with child processes) of each run but the first."""
    found: dict[str, dict[str, Any]] = {name: {"wall": [], "cpu": []} for name in ways}
    for number in range(repeats + 1):
        for name, work in ways.items():
            before, started = os.times(), time.perf_counter()
            found[name]["vectors"] = work()
            if number:
                found[name]["wall"].append(time.perf_counter() - started)
                found[name]["cpu"].append(sum(os.times()[:4]) - sum(before[:4]))
    return found


def _report(options: argparse.Namespace, found: dict[str, Any], clips: int, apart: float) -> dict[str, Any]:
    ours, other = found["ours"], found[options.against]
    ratio, cpu = (median_ratio(other[clock], ours[clock]) for clock in ("wall", "cpu"))
    for name, times in found.items():
        wall, used = (statistics.median(times[clock]) for clock in ("wall", "cpu"))
        sys.stdout.write(
            f"{name:6} {1 / wall:6.0f} clips/s, {1e3 * used:.2f} ms of processor time a clip "
            f"(runs: {', '.join(f'{1 / t:.0f}' for t in times['wall'])} clips/s)\n"
        )
    sys.stdout.write(
        f"{clips} clips; processor time {cpu:.2f}x; vectors differ by at most {apart:.1e} "
        f"(tolerance {TOLERANCE:.0e})\n"
    )
    return {
        "summary": f"embed: {ratio:.2f}x against {options.against}",
        "threads": torch.get_num_threads(),
        "clips": clips,
        "seconds_a_clip": found,
        "ratio": ratio,
        "cpu_ratio": cpu,
        "largest_difference": apart,
    }


def _copy(sources: list[Path], number: int, folder: Path) -> Path:
    """A copy of one of the lexicon's files, to link to."""
    target = folder / f"source_{number % len(sources)}.pose"
    if not target.exists():
        shutil.copyfile(sources[number % len(sources)], target)
    return target
