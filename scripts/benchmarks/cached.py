"""GradCache (`loss.cached_chunk`): memory and time of a large batch against those of one chunk.

One update of MiniLM towers on generated clips of 1 to --frames frames, each variant in its own process: a
batch of --chunk clips at once, and a batch of --clips clips in chunks of --chunk. Memory is the peak resident
memory of the process (libraries, weights, optimizer, data) and what the update added. Then the gradients of a
smaller batch, in chunks and at once, without dropout.
"""

import argparse
import logging
import statistics
import sys
from typing import Any

import torch
from torch import nn

from benchmarks.common import clocked, in_own_process, peak_memory, resident_memory
from benchmarks.train import MINILM
from benchmarks.updates import Trainer, fresh_model, generated_batch, without_dropout
from mmpt.losses import MMContraLoss, cached_loss_backward
from mmpt.losses.cached import INPUTS
from mmpt.utils.allocator import keep_freed_memory

log = logging.getLogger(__name__)

AGAINST = {"plain": "a batch of the chunk's size at once"}

WIDTH = 63


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--clips", type=int, default=1024, help="size of the large batch (default: 1024)")
    parser.add_argument("--chunk", type=int, default=64, help="chunk size in clips (default: 64)")
    parser.add_argument("--frames", type=int, default=64, help="frames of the longest clip (default: 64)")
    parser.add_argument(
        "--checked", type=int, default=160, help="batch size of the gradient check (default: 160)"
    )
    parser.add_argument(
        "--repeats", type=int, default=0, help="updates after the first, of large batches (default 0)"
    )
    parser.add_argument("--at-once", action="store_true", help="measure the large batch at once as well")
    parser.add_argument("--threads", type=int, help="number of torch threads (default: torch's)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, return all numbers; "summary" says memory, gradients and time in one line."""
    ways = {"chunk": (options.chunk, None), "cached": (options.clips, options.chunk)}
    if options.at_once:
        ways["at once"] = (options.clips, None)
    found: dict[str, Any] = {}
    for name, (clips, chunk) in ways.items():
        log.info("%d clips%s", clips, "" if chunk is None else f" by {chunk}")
        repeats = 3 if name == "chunk" else options.repeats
        found[name] = in_own_process(_updates, clips, chunk, options.frames, repeats, options.threads)[0]
    log.info("gradients of %d clips", options.checked)
    found["gradients"] = gradient_difference(options.checked, options.chunk, options.frames)
    found["memory_ratio"] = found["cached"]["peak"] / found["chunk"]["peak"]
    found["time_ratio"] = (
        found["cached"]["seconds"] / options.clips / (found["chunk"]["seconds"] / options.chunk)
    )
    lines = [
        "",
        f"{'way':<8} {'clips':>6} {'peak MiB':>9} {'of the update':>14} {'s/update':>9} {'clips/s':>8}",
    ]
    for name, (clips, _) in ways.items():
        row = found[name]
        peak, added, seconds = row["peak"] / 2**20, row["added"] / 2**20, row["seconds"]
        lines.append(
            f"{name:<8} {clips:>6} {peak:>9.0f} {added:>14.0f} {seconds:>9.2f} {clips / seconds:>8.1f}"
        )
    lines.append(
        f"  gradients of {options.checked} clips differ by {found['gradients']:.1e} of their norm at most"
    )
    sys.stdout.write("\n".join(lines) + "\n")
    memory = f"batch {options.clips} in {found['memory_ratio']:.2f}x the memory of {options.chunk}"
    time = f"{found['time_ratio']:.2f}x the time a clip"
    return found | {"summary": f"cached: {memory}, gradients within {found['gradients']:.0e}, {time}"}


def _updates(
    clips: int, chunk: int | None, frames: int, repeats: int, threads: int | None
) -> dict[str, float]:
    """Resident memory at most, what of it came after the batch was there, and seconds of an update."""
    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    model = fresh_model(MINILM, vfeat_dim=WIDTH, frames=frames, video_layers=6)
    trainer = Trainer(model, MMContraLoss(), "fp32", torch.device("cpu"), rate=1e-5)
    batch = generated_batch(clips, frames, 9, WIDTH, vary=True)
    before = resident_memory()
    seconds = [clocked(lambda: update(trainer, batch, chunk)).wall for _ in range(1 + repeats)]
    seconds = seconds[1:] or seconds  # the first also pays for memory
    return {"peak": peak_memory(), "added": peak_memory() - before, "seconds": statistics.median(seconds)}


def update(trainer: Trainer, batch: dict[str, Any], chunk: int | None) -> float:
    """One update, at once or by chunks; returns the loss."""
    if chunk is None:
        return trainer.update(batch)
    value = cached_loss_backward(trainer.model, trainer.loss, _parts(batch, chunk))
    nn.utils.clip_grad_norm_(trainer.trained, 2.0)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)
    return value


def _parts(batch: dict[str, Any], chunk: int) -> list[dict[str, Any]]:
    clips = len(batch["vfeats"])
    return [{name: batch[name][i : i + chunk] for name in INPUTS} for i in range(0, clips, chunk)]


def gradient_difference(clips: int, chunk: int, frames: int) -> float:
    """Largest relative difference of a parameter's two gradients, leaving out gradients of rounding size."""
    model = fresh_model(MINILM, vfeat_dim=WIDTH, frames=frames, video_layers=6).train()
    without_dropout(model)
    batch, loss = generated_batch(clips, frames, 9, WIDTH, vary=True), MMContraLoss("cosine", 0.1)
    out = model(*(batch[name] for name in INPUTS))
    loss(out["pooled_video"], out["pooled_text"]).backward()
    direct = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    cached_loss_backward(model, loss, _parts(batch, chunk))
    got = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert got.keys() == direct.keys()
    floor = 1e-6 * max(float(gradient.norm()) for gradient in direct.values())
    return max(
        float((got[name] - gradient).norm() / gradient.norm())
        for name, gradient in direct.items()
        if gradient.norm() > floor
    )
