"""Poses of a folder of videos: `signclip extract pose` against pose-format's command videos_to_poses.

Or against itself in another environment, whose MediaPipe has the other backend. Both are started as commands,
with as many worker processes, on copies of the same videos: real ones, or figures that are drawn from the
embedded poses. videos_to_poses runs MediaPipe Holistic with irises on every frame, as mmpt does.
"""

import functools
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.common import median_ratio
from mmpt.extractors import rendering
from mmpt.extractors.manifest import read_manifest
from mmpt.pose.components import HANDS, POSE
from mmpt.pose.reader import read_pose
from mmpt.processors.fingerspelling import find_lexicon

_WIDTH, _HEIGHT, _FPS = 640, 480, 25
_PEER = "from pose_format.bin.directory import main; main()"


def compare(
    videos: Path, folder: Path, repeats: int, workers: int, python: Path | None = None
) -> dict[str, Any]:
    """Frames per second of both ways, alternating, and how far their landmarks are apart.

    python: of the environment whose `signclip extract pose` is the peer, instead of videos_to_poses.
    """
    times: dict[str, list[tuple[float, float]]] = {"peer": [], "mmpt": []}
    for repeat, way in itertools.product(range(repeats), times):
        out = folder / f"{way}-{repeat}" / "videos"
        shutil.copytree(videos, out)
        command = [sys.executable, "-c", _PEER, "--directory", str(out), "--num-workers", str(workers)]
        command += ["--additional-config", "refine_face_landmarks=true"]
        if way == "mmpt" or python:
            started = sys.executable if way == "mmpt" else str(python)
            command = [started, "-m", "mmpt", "extract", "pose", "--in", str(out), "--out", str(out)]
            command += ["--workers", str(workers), "--quiet"]
        times[way].append(_clocked(functools.partial(_run, command)))
    first = {way: folder / f"{way}-0" / "videos" for way in times}
    pairs = [
        (read_pose(path), read_pose(first["peer"] / path.name))
        for path in sorted(first["mmpt"].glob("*.pose"))
    ]
    frames = sum(len(ours) for ours, _ in pairs)
    wall, cpu = ({way: [t[i] for t in some] for way, some in times.items()} for i in (0, 1))
    return {
        "frames": frames,
        "frames_per_second": {way: frames / statistics.median(some) for way, some in wall.items()},
        "cpu_per_frame": {way: statistics.median(some) / frames for way, some in cpu.items()},
        "ratio": median_ratio(wall["peer"], wall["mmpt"]),
        "cpu_ratio": median_ratio(cpu["peer"], cpu["mmpt"]),
        "hands_px": _distance(pairs),
        "backends": {way: _backend(path) for way, path in first.items()},
        "times": times,
    }


def _backend(folder: Path) -> str:
    """The backend that wrote a folder, or videos_to_poses, which writes no manifest."""
    runs = read_manifest(folder).get("runs", {})
    return next((run["tools"]["backend"] for run in runs.values()), "videos_to_poses")


def draw_videos(folder: Path, clips: int, seconds: int) -> None:
    """Videos of figures that are drawn from poses of the lexicon, each repeated until it is long enough."""
    folder.mkdir()
    poses = sorted(find_lexicon(None).rglob("*.pose"))
    for number, path in enumerate(poses[:: max(1, len(poses) // clips)][:clips]):
        pose = rendering.read_drawable(path)
        fitted = rendering.fit(pose, rendering.box_of(pose, POSE), _WIDTH, _HEIGHT)
        pictures = list(rendering.pictures(rendering.sample_middle(fitted, _FPS, _FPS)))
        with av.open(str(folder / f"clip{number}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=_FPS, options={"qscale": "3"})
            stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
            for picture in itertools.islice(itertools.cycle(pictures), _FPS * seconds):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())


def _run(command: list[str]) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")


def _clocked(work: Callable[[], None]) -> tuple[float, float]:
    """Wall seconds, and processor seconds of the child processes."""
    before, start = os.times(), time.perf_counter()
    work()
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def _distance(pairs: list[tuple[Any, Any]]) -> float:
    """Median distance in pixels of the hands' points that both saw."""
    apart = []
    for ours, theirs in pairs:
        assert len(ours) == len(theirs), "both must read the same frames"
        for hand in HANDS:
            (a, seen), (b, too) = ours.component(hand), theirs.component(hand)
            both = (seen != 0) & (too != 0)
            apart.append(np.linalg.norm((a - b)[..., :2][both], axis=-1))
    found = np.concatenate(apart) if apart else np.empty(0)
    return float(np.median(found)) if len(found) else float("nan")
