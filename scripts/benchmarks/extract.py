"""Extraction: poses against pose-format's videos_to_poses, or S3D and I3D against a plain loop.

peer: see benchmarks/peer_extraction.py; with --python, `extract pose` in another environment. plain: the
plain loop decodes a window, computes it with all cores in float32, and takes the next. Both read the same
videos with the same decoder and the same random weights, in turn, and must give the same features; mmpt's
time includes worker start and manifest. Processor time is reported too, because other load affects it less.
Then the peak memory of the command on a short and on a long video.
"""

import argparse
import functools
import logging
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from benchmarks import peer_extraction
from benchmarks.common import in_own_process
from benchmarks.plain_video import plain_i3d, plain_s3d
from mmpt.extractors.i3d_extractor import I3DExtractor
from mmpt.extractors.network_extractor import NetworkExtractor
from mmpt.extractors.runner import RunOptions, extract_folder
from mmpt.extractors.s3d_extractor import S3DExtractor
from mmpt.utils.parallel import cores

PLAIN: dict[str, Callable[..., torch.Tensor]] = {"s3d": plain_s3d, "i3d": plain_i3d}
AGAINST = {
    "peer": "poses: pose-format's videos_to_poses with as many workers, or --python",
    "plain": "s3d and i3d: one window after another, all cores, float32",
}
KINDS: dict[str, type[NetworkExtractor]] = {"s3d": S3DExtractor, "i3d": I3DExtractor}
log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes and repeats."""
    parser.add_argument("--videos", type=Path, help="peer: folder of videos (default: drawn figures)")
    parser.add_argument(
        "--python",
        type=Path,
        help="peer: the Python of an environment with the other backend of `extract pose`, instead of "
        "videos_to_poses",
    )
    parser.add_argument("--workers", type=int, default=cores(), help="peer: of both (default: cores)")
    parser.add_argument("--clips", type=int, default=10, help="videos (default 10)")
    parser.add_argument("--seconds", type=int, default=6, help="length of each (default 6)")
    parser.add_argument("--repeats", type=int, default=2, help="alternating repeats (default 2)")
    parser.add_argument("--networks", nargs="+", choices=list(PLAIN), default=list(PLAIN))
    parser.add_argument(
        "--dtype", default="auto", help="number type of mmpt (default auto); the plain loop has float32"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile ours")
    parser.add_argument(
        "--memory-minutes",
        type=float,
        nargs="*",
        default=[1, 10],
        help="video lengths (default 1 10; empty: leave out)",
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return all numbers; "summary" gives the ratios."""
    return _against_peer(options) if options.against == "peer" else _against_plain(options)


def _against_peer(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        videos = options.videos or Path(folder, "videos")
        if options.videos is None:
            peer_extraction.draw_videos(videos, options.clips, options.seconds)
        found = peer_extraction.compare(
            videos, Path(folder), options.repeats, options.workers, options.python
        )
    names = {way: f"{way} ({backend})" for way, backend in found["backends"].items()}
    rates = ", ".join(f"{names[way]} {rate:.1f}" for way, rate in found["frames_per_second"].items())
    seconds = ", ".join(f"{way} {each:.4f}" for way, each in found["cpu_per_frame"].items())
    hands = found["hands_px"]
    apart = "no hand is seen by both" if math.isnan(hands) else f"hands {hands:.2f} px apart (median)"
    sys.stdout.write(
        f"poses: frames/s of {found['frames']} frames: {rates}; processor seconds a frame: {seconds}, "
        f"{found['cpu_ratio']:.2f}x; {apart}\n"
    )
    return found | {"summary": f"extract: poses {found['ratio']:.2f}x against peer"}


def _against_plain(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder, "videos")
        videos.mkdir()
        for number in range(options.clips):
            write_video(videos / f"clip{number}.mp4", options.seconds, seed=number)
        for name in options.networks:
            found[name] = _compare(name, videos, Path(folder), options)
        if options.memory_minutes:
            found["memory"] = _memory(Path(folder), options.memory_minutes)
    ratios = ", ".join(f"{name} {found[name]['ratio']:.2f}x" for name in options.networks)
    return found | {"summary": f"extract: {ratios} against plain"}


def write_video(path: Path, seconds: int, seed: int = 0) -> None:
    """640x480 at 30 pictures a second: one second of a drifting picture with noise, over and over."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (12, 16, 3), np.uint8)
    base = np.kron(small, np.ones((40, 40, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30, options={"g": "30", "qscale": "5"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        packets = []
        for shift in range(30):
            noise = rng.integers(0, 24, base.shape, np.uint8)
            picture = np.maximum(np.roll(base, 8 * shift, axis=1), noise)
            packets += stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
        packets += stream.encode()
        stamps = [(packet.pts, packet.dts, packet.time_base) for packet in packets]
        for second in range(seconds):
            for packet, (pts, dts, base_time) in zip(packets, stamps):
                later = round(second / base_time)
                packet.pts, packet.dts, packet.time_base = pts + later, dts + later, base_time
                container.mux(packet)


def _compare(name: str, videos: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    extractor = KINDS[name]("random:0", dtype=options.dtype, compiled=options.compile)
    network = extractor.load()
    extractor.load = lambda: network  # both ways begin with the weights in memory
    workers = extractor.default_workers(cores())
    plain_out, ours_out = folder / f"{name}-plain", folder / f"{name}-ours"
    tokens = 0
    times: dict[str, list[list[float]]] = {"plain": [], "ours": []}
    for _ in range(options.repeats):
        # in a process of its own, because ours changes how this one allocates memory
        (tokens, *clocks), _peak = in_own_process(_plain_loop, name, videos, plain_out)
        times["plain"].append(clocks)
        shutil.rmtree(ours_out, ignore_errors=True)
        quiet = RunOptions(workers, show_progress=False)
        ours = functools.partial(extract_folder, extractor, videos, ours_out, quiet)
        times["ours"].append(_clocked(ours)[1:])
    cosines = [_cosine(path, ours_out / path.name) for path in plain_out.glob("*.npy")]
    found: dict[str, Any] = {"windows": tokens, "times": times, "cosine": min(cosines)}
    for clock, what in enumerate(("", "cpu_")):
        rates = {
            way: tokens / statistics.median(pair[clock] for pair in pairs) for way, pairs in times.items()
        }
        pairs = zip(times["plain"], times["ours"])
        found[f"{what}ratio"] = statistics.median(slow[clock] / fast[clock] for slow, fast in pairs)
        found[f"windows_per_{what}second"] = rates
    wall, cpu = found["windows_per_second"], found["windows_per_cpu_second"]
    sys.stdout.write(
        f"{name}: windows/s plain {wall['plain']:.2f}, ours {wall['ours']:.2f}: {found['ratio']:.2f}x "
        f"(a second of one core: {cpu['plain']:.2f}, {cpu['ours']:.2f}: {found['cpu_ratio']:.2f}x); "
        f"{tokens} windows, least cosine between the two {found['cosine']:.6f}\n"
    )
    return found


def _plain_loop(name: str, videos: Path, out: Path) -> list[Any]:
    """The plain loop, weights in memory to features on disk: windows, wall seconds, processor seconds."""
    torch.set_num_threads(cores())  # whatever OMP_NUM_THREADS says: ours takes no notice of it either
    extractor = KINDS[name]("random:0", dtype="float32", device="cpu")
    compute = functools.partial(PLAIN[name], extractor.load())
    with torch.inference_mode():
        compute(torch.zeros(1, 3, extractor.reader().length, 224, 224))  # the first time warms up
        return _clocked(functools.partial(_one_after_the_other, extractor, compute, videos, out))


def _one_after_the_other(
    extractor: NetworkExtractor, compute: Callable[[torch.Tensor], torch.Tensor], videos: Path, out: Path
) -> int:
    """One window at a time, decode and compute in turn. How many windows."""
    out.mkdir(exist_ok=True)
    total = 0
    for path in sorted(videos.iterdir()):
        tokens = []
        for window in extractor.reader().windows(path):
            frames = torch.from_numpy(window).permute(3, 0, 1, 2)[None].float() / 255 + extractor.offset
            tokens.append(compute(frames.contiguous())[0].numpy())
        np.save(out / f"{path.stem}.npy", extractor.finish(np.stack(tokens)))
        total += len(tokens)
    return total


def _clocked(work: Callable[[], Any]) -> list[Any]:
    """The result of a call, its wall seconds and its processor seconds, child processes included."""
    before, start = os.times(), time.perf_counter()
    result = work()
    wall, after = time.perf_counter() - start, os.times()
    return [result, wall, sum(after[:4]) - sum(before[:4])]


def _cosine(one: Path, other: Path) -> float:
    a, b = (np.load(path).astype(np.float64) for path in (one, other))
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def _memory(folder: Path, minutes: list[float]) -> dict[str, Any]:
    """Peak memory of `extract i3d` with a window every ten seconds; every picture is decoded all the same."""
    peaks: dict[str, float] = {}
    for length in minutes:
        videos = folder / f"{length:g}-minutes"
        videos.mkdir()
        write_video(videos / "long.mp4", round(60 * length))
        command = [
            sys.executable,
            "-m",
            "mmpt.cli.extract",
            "i3d",
            "--weights",
            "random:0",
            "--stride",
            "250",
        ]
        command += ["--in", str(videos), "--out", str(folder / f"{length:g}-out"), "--quiet"]
        peaks[f"{length:g}"] = _tree_peak(command) / 2**20
        sys.stdout.write(f"memory: {length:g}-minute video {peaks[f'{length:g}']:.0f} MiB\n")
    values = list(peaks.values())
    growth = values[-1] / values[0]
    sys.stdout.write(f"memory: {minutes[-1]:g} minutes take {growth:.3f} times that of {minutes[0]:g}\n")
    return {"peak_mib": peaks, "growth": growth}


def _tree_peak(command: list[str]) -> float:
    """Peak resident memory of a command and its child processes together, in bytes (Linux)."""
    source = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": source})
    peaks: dict[str, int] = {}
    while process.poll() is None:
        for pid in [str(process.pid), *_children(process.pid)]:
            try:
                status = Path("/proc", pid, "status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            peak = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
            peaks[pid] = max([*peak, peaks.get(pid, 0)])
        time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    return sum(peaks.values()) * 1024


def _children(pid: int) -> list[str]:
    found: list[str] = []
    for task in Path("/proc", str(pid), "task").glob("*/children"):
        try:
            found += task.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
