"""Spotting in recordings of growing length: time and peak memory, against other ways.

A recording is the lexicon's clips, repeated. Each length runs in a process of its own, with the model, all
texts and the files that `signclip spot` writes; the time is without loading the model. The peer is what a
competent user would write: `Pose.read` of the whole recording, mmpt's features of each window, batches of 64
windows padded to their longest, transformers' BertModel (SDPA, inference mode) with the weights of the same
model, a matrix product with the texts, and suppression of each text in NumPy. Both search the
same part of the recording (--peer minutes) with the same vectors of the texts; no files. `plain` reads the
recording once, and prepares and embeds each window as a clip with `SignCLIP.embed_pose`.
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

from benchmarks.common import clocked, in_own_process
from benchmarks.peer_embedding import PeerTowers
from benchmarks.peer_spotting import peaks_of_each_text, window_scores_of
from mmpt.config import load_config
from mmpt.embedding.embedder import SignCLIP
from mmpt.models import load_tokenizer
from mmpt.models.folder import LoadedModel
from mmpt.processors.fingerspelling import find_lexicon
from mmpt.spotting import (
    Recording,
    Segments,
    SpotOptions,
    Targets,
    Thresholds,
    WindowGrid,
    find_peaks,
)
from mmpt.spotting.run import spot_recordings
from mmpt.spotting.searching import RunOptions
from mmpt.tasks import Task

AGAINST = {
    "peer": "batches of windows, transformers' BertModel, suppression in NumPy",
    "plain": "one window at a time, with SignCLIP.embed_pose",
}
FPS = 25
TOLERANCE = 0.01
"""Share of the peaks that may differ: scores that are equal but for rounding."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--model", help="model folder (default: an untrained model of --config)")
    parser.add_argument("--config", default="projects/signclip/fslex_demo.yaml", help="untrained model")
    parser.add_argument(
        "--minutes", nargs="+", type=float, default=[10, 30, 60], help="lengths (default: 10 30 60)"
    )
    parser.add_argument("--texts", type=int, default=500, help="number of texts (default 500)")
    parser.add_argument("--threshold", type=float, default=0.3, help="least score (default 0.3)")
    parser.add_argument(
        "--segments", type=int, default=0, help="segments of a made-up reference of 50 texts, for metrics"
    )
    parser.add_argument("--peer", type=float, default=5, help="minutes of the peer's part (default 5)")
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
        last = found[-1]
        if options.against == "plain":
            other, ours = _plain(options, path), {c: last[c] / last["windows"] for c in ("wall", "cpu")}
        else:
            other, ours = _peer(options, folder)
    ratio, cpu = (other[clock] / ours[clock] for clock in ("wall", "cpu"))
    return {
        "summary": f"spot: {last['minutes']:g} min in {last['wall']:.0f} s, {last['peak_mib']:.0f} MiB, "
        f"{ratio:.1f}x against {options.against} ({cpu:.1f}x of processor time)",
        "threads": torch.get_num_threads(),
        "lengths": found,
        "seconds_a_window": ours,
        f"{options.against}_seconds_a_window": other,
        "ratio": ratio,
        "cpu_ratio": cpu,
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
    references = [_made_up(options, Recording(model, path))] if options.segments else None
    [row] = spot_recordings(model, [path], targets, out, how, references)["recordings"]
    taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return taken | {"windows": row["windows"], "detections": row["detections"]}


def _made_up(options: argparse.Namespace, recording: Recording) -> Segments:
    """A reference of segments of a second of the first 50 texts, at random times."""
    random = np.random.default_rng(0)
    start = np.sort(random.uniform(0, recording.count / recording.fps - 1, options.segments))
    texts = random.integers(0, min(options.texts, 50), options.segments)
    return Segments(np.stack([start, start + 1], axis=1), texts)


def _peer(options: argparse.Namespace, folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of a window of the peer and of mmpt, on a part of the recording; the peaks are compared."""
    path = folder / "peer.pose"
    write_recording(path, round(60 * FPS * options.peer))
    model = _model(options)
    targets = Targets.of_texts(model, [f"Fingerspell sign {number}." for number in range(options.texts)])
    towers, grid, recording = PeerTowers(model), WindowGrid(), Recording(model, path)
    spans, (scores, taken) = grid.spans(recording.count, recording.fps), ({}, {})

    def spot_all() -> None:
        scores["all"] = window_scores_of(towers, model.video_processor, path, spans, targets.vectors)
        taken["peaks"] = peaks_of_each_text(spans, scores["all"], SpotOptions().overlap, options.threshold)

    found = []
    times = clocked(spot_all)
    own = clocked(
        lambda: found.append(find_peaks(model, recording, targets, SpotOptions(), options.threshold))
    )
    peaks = found[0].peaks
    ours = {(*span, text) for span, text in zip(peaks.spans.tolist(), peaks.texts.tolist())}
    apart = len(ours ^ taken["peaks"]) / max(len(ours), 1)
    sys.stdout.write(f"peer: {len(spans)} windows, {len(taken['peaks'])} peaks, {apart:.2%} differ\n")
    if apart > TOLERANCE:
        raise RuntimeError(f"{apart:.2%} of the peaks differ")
    peer, mmpt = ({"wall": t.wall / len(spans), "cpu": t.cpu / len(spans)} for t in (times, own))
    return peer, mmpt


def _plain(options: argparse.Namespace, path: Path) -> dict[str, float]:
    """Seconds of a window, read by pose-format and embedded on its own."""
    model = _model(options)
    pose = Pose.read(path.read_bytes())
    recording = Recording(model, path)
    spans = WindowGrid().spans(recording.count, recording.fps)
    times = []
    for start, stop in spans[np.linspace(0, len(spans) - 1, options.plain).astype(int)]:
        body = NumPyPoseBody(FPS, pose.body.data[start:stop], pose.body.confidence[start:stop])
        times.append(clocked(lambda body=body: model.embed_pose([Pose(pose.header, body)])))
    wall, cpu = (statistics.median(some) for some in zip(*times))
    return {"wall": wall, "cpu": cpu}
