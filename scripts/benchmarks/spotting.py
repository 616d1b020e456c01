"""Spotting in recordings of growing length: time and peak memory, against one window at a time.

A recording is the lexicon's clips, repeated. Each length runs in a process of its own, with the model, all
texts and the files that `signclip spot` writes; the time is without loading the model. The other way reads
the recording once, and prepares and embeds each window as a clip with `SignCLIP.embed_pose`.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody

from benchmarks.common import in_own_process
from mmpt.config import load_config
from mmpt.embedding.embedder import SignCLIP
from mmpt.models import load_tokenizer
from mmpt.models.folder import LoadedModel
from mmpt.processors.fingerspelling import find_lexicon
from mmpt.spotting import Recording, Targets, Thresholds, WindowGrid
from mmpt.spotting.run import RunOptions, spot_recordings
from mmpt.tasks import Task

AGAINST = {"plain": "one window at a time, with SignCLIP.embed_pose"}
FPS = 25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--model", help="model folder (default: an untrained model of --config)")
    parser.add_argument("--config", default="projects/signclip/fslex_demo.yaml", help="untrained model")
    parser.add_argument(
        "--minutes", nargs="+", type=float, default=[10, 30, 60], help="lengths (default: 10 30 60)"
    )
    parser.add_argument("--texts", type=int, default=500, help="number of texts (default 500)")
    parser.add_argument("--threshold", type=float, default=0.3, help="least score (default 0.3)")
    parser.add_argument("--plain", type=int, default=100, help="windows in the plain loop (evenly spaced)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Time all lengths, and the plain loop."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for minutes in options.minutes:
            path = folder / f"{minutes:g}min.pose"
            write_recording(path, round(60 * FPS * minutes))
            (times, peak) = in_own_process(_spot, options, path, folder / path.stem)
            found.append({"minutes": minutes, "peak_mib": peak / 2**20, **times})
            sys.stdout.write(json.dumps(found[-1]) + "\n")
        plain = _plain(options, path)
    last = found[-1]
    ratio = plain / (last["wall"] / last["windows"])
    return {
        "summary": f"spot: {last['minutes']:g} min in {last['wall']:.0f} s, {last['peak_mib']:.0f} MiB, "
        f"{ratio:.1f}x against plain",
        "threads": torch.get_num_threads(),
        "lengths": found,
        "plain_seconds_a_window": plain,
        "ratio": ratio,
    }


def write_recording(path: Path, frames: int) -> None:
    """A `.pose` of the lexicon's clips, repeated up to `frames` frames."""
    clips = sorted(find_lexicon(None).glob("*/*.pose"))
    header, parts, count = None, [], 0
    while count < frames:
        pose = Pose.read(clips[len(parts) % len(clips)].read_bytes())
        header = header or pose.header
        parts.append((np.ma.getdata(pose.body.data)[:, :1], np.asarray(pose.body.confidence)[:, :1]))
        count += len(parts[-1][0])
    data, confidence = (np.concatenate(some)[:frames] for some in zip(*parts))
    with open(path, "wb") as file:
        Pose(header, NumPyPoseBody(FPS, data, confidence)).write(file)


def _model(options: argparse.Namespace) -> SignCLIP:
    if options.model:
        return SignCLIP.from_pretrained(options.model, "cpu", batch_size=256)
    config = load_config(options.config)
    torch.manual_seed(0)
    built = Task(config).build_model().eval()
    tokenizer = load_tokenizer(config.dataset.bert_name)
    return SignCLIP(LoadedModel(built, config.model, config.dataset, tokenizer), "cpu", batch_size=256)


def _spot(options: argparse.Namespace, path: Path, out: Path) -> dict[str, float]:
    model = _model(options)
    wall, cpu = time.perf_counter(), time.process_time()
    targets = Targets.of_texts(model, [f"Fingerspell sign {number}." for number in range(options.texts)])
    how = RunOptions(thresholds=Thresholds(options.threshold), show_progress=False)
    [row] = spot_recordings(model, [path], targets, out, how)["recordings"]
    taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return taken | {"windows": row["windows"], "detections": row["detections"]}


def _plain(options: argparse.Namespace, path: Path) -> float:
    """Seconds of a window, read by pose-format and embedded on its own."""
    model = _model(options)
    pose = Pose.read(path.read_bytes())
    recording = Recording(model, path)
    spans = WindowGrid().spans(recording.count, recording.fps)
    times = []
    for start, stop in spans[np.linspace(0, len(spans) - 1, options.plain).astype(int)]:
        began = time.perf_counter()
        body = NumPyPoseBody(FPS, pose.body.data[start:stop], pose.body.confidence[start:stop])
        model.embed_pose([Pose(pose.header, body)])
        times.append(time.perf_counter() - began)
    return statistics.median(times)
