"""Training updates of mmpt against a loop with transformers (peer), or plain padding to the maximum.

Both train the same model on the same batches of the embedded data, in turn, in one process. Without dropout
their losses are compared update by update, and with what the order of sums alone does to them; the times are
those with the dropout of the config. Then how the time of an update of ours grows with the batch and with the
clips' length, and that of an epoch with the number of clips. "of peak": the share of the speed of large
matrix products, measured in turn with the updates, at which an update computes its own.

On a GPU, SignCLIP's own setting (bert-base towers, batch 448, 256 frames, 64 tokens) is measured by
    python scripts/benchmark.py train --large 448 256 64
"""

import argparse
import itertools
import logging
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Taken, alternate, clocked, exponent, in_own_process, median_ratio
from benchmarks.updates import PARTS, WAYS, Products, Trainer, fresh_model, generated_batch
from mmpt.config import load_config
from mmpt.config.fairseq_options import option
from mmpt.models.bert import BertSettings
from mmpt.models.precision import computes_in
from mmpt.tasks import Task
from mmpt.utils.allocator import keep_freed_memory
from mmpt.utils.device import choose_device

log = logging.getLogger(__name__)

CONFIG = Path(__file__).parents[2] / "projects/signclip/fslex_scratch_hand_dominant_aug.yaml"
AGAINST = {name: WAYS[name] for name in ("peer", "plain", "fp32")}
OTHER = {
    "peer": {"fp32": "peer", "bf16": "peer bf16"},
    "plain": {"fp32": "plain", "bf16": "plain"},
    "fp32": {"bf16": "fp32"},
}
"""What each way of mmpt is compared with, by --against."""
RATES = {"recipe": "with the recipe's learning rates", "full": "with the full rate at once"}
MINILM = BertSettings(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is trained, and how often."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the config")
    parser.add_argument(
        "--config", default=str(CONFIG), help="task config (default: the best published recipe)"
    )
    parser.add_argument("--updates", type=int, default=1, help="updates a measurement (default 1)")
    parser.add_argument("--repeats", type=int, default=3, help="alternating repeats (default 3)")
    parser.add_argument(
        "--check", type=int, default=20, metavar="UPDATES", help="compared losses (default 20)"
    )
    parser.add_argument("--threads", type=int, help="of torch (default: its own choice)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default auto)")
    parser.add_argument("--no-scaling", action="store_true", help="leave the growth with size out")
    parser.add_argument(
        "--large",
        nargs=3,
        type=int,
        metavar=("CLIPS", "FRAMES", "TOKENS"),
        help="bert-base towers at this size",
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print tables, return all numbers; "summary" is the last line of the command."""
    keep_freed_memory()  # for all ways alike
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    has_bf16 = computes_in("bf16", device.type)
    other = {ours: way for ours, way in OTHER[options.against].items() if ours == "fp32" or has_bf16}
    ways = [way for way in WAYS if way in other or way in other.values() or way == "fp32"]
    found: dict[str, Any] = {"device": device.type, "threads": torch.get_num_threads()}
    task, padding = _task(options)
    found["speed"] = _speed(task, padding, ways, device, options)
    found["speed"] |= _ratios(found["speed"], other)
    if options.check and options.against != "fp32":
        found["losses"] = _losses(task, padding, device, options)
    found["memory"] = _memory(ways, options)
    if not options.no_scaling:
        found["growth"] = _growth(task, padding, device)
    if options.large:
        found["large"] = _large(device, *options.large)
    sys.stdout.write("\n".join(_table(found)) + "\n")
    ratios = found["speed"]["ratio"]
    bf16 = f"{ratios['bf16']:.2f}x" if has_bf16 else f"not tried: emulated on this {device.type.upper()}"
    summary = f"train: {bf16} (bf16) {ratios.get('fp32', 1.0):.2f}x (fp32) against {options.against}"
    return found | {"summary": summary}


def _task(options: argparse.Namespace) -> tuple[Task, tuple[int, int]]:
    config = load_config(options.config, options.overrides)
    return Task(config), (config.dataset.max_video_len, config.dataset.max_len)


def _batches(task: Task) -> list[list[int]]:
    return task.dataset("train").batches(option(task.config.fairseq, "batch_size"), 1)


def _speed(
    task: Task, padding: tuple[int, int], ways: list[str], device: torch.device, options: argparse.Namespace
) -> dict[str, Any]:
    dataset, batches = task.dataset("train"), _batches(task)[: options.updates]
    trainers = {way: Trainer.of_task(task, way, device) for way in ways}

    def work(trainer: Trainer) -> Any:
        return lambda: trainer.epoch(dataset, batches, padding)

    log.info("speed: %d alternating repeats of %d updates", options.repeats, len(batches))
    calls = {way: work(trainer) for way, trainer in trainers.items()}
    products = {way: Products(way, device) for way in ways}
    calls |= {f"products {way}": some for way, some in products.items()}
    flops = {
        way: trainer.flops([trainer.read(dataset, batch, padding) for batch in batches])
        for way, trainer in trainers.items()
    }  # memory and libraries are ready from here on
    for trainer in trainers.values():
        trainer.seconds = dict.fromkeys(PARTS, 0.0)
    times = alternate(calls, options.repeats)
    wall = {way: [t.wall / len(batches) for t in times[way]] for way in ways}
    cpu = {way: [t.cpu / len(batches) for t in times[way]] for way in ways}
    samples = [dataset[i] for batch in batches for i in batch]
    frames, tokens = (sum(len(s[name]) for s in samples) for name in ("vfeats", "caps"))
    return {
        "clips": len(samples) / len(batches),
        "frames": {"real": frames / len(samples), "plain": padding[0]},
        "tokens": {"real": tokens / len(samples), "plain": padding[1]},
        "seconds": wall,
        "processor_seconds": cpu,
        "shares": {way: _shares(trainer.seconds) for way, trainer in trainers.items()},
        "flops": {way: count / len(batches) for way, count in flops.items()},
        "peak": {way: _speed_of(some.flops, times[f"products {way}"]) for way, some in products.items()},
        "of_peak": {
            way: _speed_of(flops[way], times[way]) / _speed_of(some.flops, times[f"products {way}"])
            for way, some in products.items()
        },
    }


def _ratios(speed: dict[str, Any], other: dict[str, str]) -> dict[str, dict[str, float]]:
    """Times as fast as what it is compared with, for each way of mmpt, by the clock and processor time."""
    return {
        name: {ours: median_ratio(speed[seconds][way], speed[seconds][ours]) for ours, way in other.items()}
        for name, seconds in (("ratio", "seconds"), ("processor_ratio", "processor_seconds"))
    }


def _speed_of(flops: int, times: list[Taken]) -> float:
    """Operations a second, by the median time."""
    return flops / statistics.median(taken.wall for taken in times)


def _shares(seconds: dict[str, float]) -> dict[str, float]:
    return {part: spent / sum(seconds.values()) for part, spent in seconds.items()}


def _losses(
    task: Task, padding: tuple[int, int], device: torch.device, options: argparse.Namespace
) -> dict[str, Any]:
    """Losses of the other way and of ours over some updates, without dropout; they have to agree.

    First with the learning rates of the config, which warm up. Then with the full rate at once: training is
    chaotic there, so that the other way stands beside itself too, with the clips of every batch in reverse
    order, which changes nothing but the order of sums.
    """
    dataset, updates, other = task.dataset("train"), options.check, OTHER[options.against]["fp32"]
    batches: list[list[int]] = []
    for epoch in itertools.count(1):
        batches += dataset.batches(option(task.config.fairseq, "batch_size"), epoch)
        if len(batches) >= updates:
            break
    batches = batches[:updates]

    def losses(way: str, warmup: int, batches: list[list[int]]) -> list[float]:
        trainer = Trainer.of_task(task, way, device, dropout=False, warmup=warmup)
        return trainer.epoch(dataset, batches, padding)

    found: dict[str, Any] = {}
    for rates, warmup in {"recipe": int(option(task.config.fairseq, "warmup_updates", 0)), "full": 0}.items():
        log.info("losses over %d updates, without dropout, %s", updates, RATES[rates])
        found[rates] = {way: losses(way, warmup, batches) for way in (other, "fp32")}
    found["full"]["reversed"] = losses(other, 0, [batch[::-1] for batch in batches])
    return found


def _apart(some: list[float], others: list[float]) -> float:
    """The largest difference between losses of two ways."""
    return max(abs(a - b) for a, b in zip(some, others))


def _memory(ways: list[str], options: argparse.Namespace) -> dict[str, int]:
    """Peak memory of an update in a process of its own: resident, or on the GPU, in bytes."""
    log.info("memory: each way in a process of its own")
    found = {}
    for way in ways:
        on_device, resident = in_own_process(_one_update, options, way)
        found[way] = on_device or resident
    return found


def _one_update(options: argparse.Namespace, way: str) -> int:
    keep_freed_memory()
    device = choose_device(options.device)
    task, padding = _task(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    trainer = Trainer.of_task(task, way, device)
    trainer.epoch(task.dataset("train"), _batches(task)[:1], padding)
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def _growth(task: Task, padding: tuple[int, int], device: torch.device) -> dict[str, Any]:
    """Seconds of an update of ours as the batch, or the clips' length, grow; of an epoch, with its clips."""
    log.info("growth with the batch, with the length of clips and with their number")
    model = fresh_model(MINILM, vfeat_dim=63, frames=256, video_layers=6)
    trainer = Trainer(model, _contrast(), "fp32", device, rate=1e-5)
    found = {}
    for name, sizes in (("batch", (8, 16, 32, 64)), ("frames", (32, 64, 128, 256))):
        seconds = []
        for size in sizes:
            clips, frames = (size, 26) if name == "batch" else (8, size)
            batch = generated_batch(clips, frames, 9, 63)
            trainer.update(batch)
            seconds.append(min(clocked(lambda b=batch: trainer.update(b)).wall for _ in range(3)))
        found[name] = {
            "sizes": list(sizes),
            "seconds": seconds,
            "exponent": exponent(sizes, seconds),
        }
    dataset, batches = task.dataset("train"), _batches(task)
    trainer = Trainer.of_task(task, "fp32", device)
    trainer.epoch(dataset, batches[:1], padding)
    parts = [batches[: max(1, round(len(batches) * share))] for share in (0.25, 0.5, 1)]
    sizes = [sum(map(len, part)) for part in parts]
    seconds = [clocked(lambda p=part: trainer.epoch(dataset, p, padding)).wall for part in parts]
    found["clips"] = {"sizes": sizes, "seconds": seconds, "exponent": exponent(sizes, seconds)}
    return found


def _contrast() -> Any:
    from mmpt.losses import MMContraLoss

    return MMContraLoss()


def _large(device: torch.device, clips: int, frames: int, tokens: int) -> dict[str, Any]:
    """SignCLIP's towers (bert-base, six video layers) with clips of 1 to `frames` frames."""
    way = "bf16" if computes_in("bf16", device.type) else "fp32"
    log.info("bert-base towers, %d clips of up to %d frames, %d tokens, %s", clips, frames, tokens, way)
    model = fresh_model(BertSettings(), vfeat_dim=609, frames=frames, video_layers=6)
    trainer = Trainer(model, _contrast(), way, device, rate=1e-5)
    batch = generated_batch(clips, frames, tokens, 609, vary=True)
    flops = trainer.flops([batch])
    times = alternate(
        {"update": lambda: trainer.update(batch), "products": (products := Products(way, device))}, 3
    )
    seconds = statistics.median(taken.wall for taken in times["update"])
    peak = _speed_of(products.flops, times["products"])
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {
        "way": way,
        "clips": clips,
        "seconds": seconds,
        "clips_per_second": clips / seconds,
        "memory": memory,
        "flops": flops,
        "peak": peak,
        "of_peak": flops / seconds / peak,
    }


def _table(found: dict[str, Any]) -> list[str]:
    speed = found["speed"]
    frames, tokens = speed["frames"], speed["tokens"]
    lines = [
        "",
        f"{speed['clips']:.0f} clips an update, {frames['real']:.0f} frames and {tokens['real']:.0f} token "
        f"ids each (padded to the maximum: {frames['plain']} and {tokens['plain']}); {found['device']}, "
        f"threads of torch: {found['threads']}",
        "",
        f"{'way':<9} {'s/update':>9} {'updates/s':>10} {'ratio':>7} {'processor':>10} {'memory MiB':>11}"
        f" {'GFLOP':>8} {'of peak':>8}" + "".join(f" {part:>10}" for part in PARTS),
    ]
    for way, seconds in speed["seconds"].items():
        median = statistics.median(seconds)
        ratio, cpu = (
            f"{speed[key][way]:.2f}x" if way in speed[key] else "" for key in ("ratio", "processor_ratio")
        )
        shares = "".join(f" {share:>10.1%}" for share in speed["shares"][way].values())
        memory = found["memory"][way] / 2**20
        lines.append(
            f"{way:<9} {median:>9.3f} {1 / median:>10.3f} {ratio:>7} {cpu:>10} {memory:>11.0f}"
            f" {speed['flops'][way] / 1e9:>8.1f} {speed['of_peak'][way]:>8.0%}{shares}"
        )
    lines += ["", *(f"  {way}: {WAYS[way]}" for way in speed["seconds"])]
    peaks = {
        way: f"{peak / 1e12:.2f} TFLOP/s" for way, peak in speed["peak"].items() if way in ("fp32", "bf16")
    }
    lines += [f"  peak, by large matrix products: {', '.join(f'{p} in {way}' for way, p in peaks.items())}"]
    for rates, losses in found.get("losses", {}).items():
        name, other = next(iter(losses.items()))
        lines += [
            "",
            f"losses of {len(other)} updates without dropout, {RATES[rates]} ({other[0]:.4f} to "
            f"{other[-1]:.4f}), differ by {_apart(other, losses['fp32']):.1e} at most",
        ]
        if "reversed" in losses:
            lines += [
                f"  (those of {name} with clips in reverse order, by {_apart(other, losses['reversed']):.1e})"
            ]
    for name, growth in found.get("growth", {}).items():
        what = "an epoch" if name == "clips" else "an update"
        pairs = ", ".join(f"{n}: {t:.2f}" for n, t in zip(growth["sizes"], growth["seconds"]))
        lines += [
            "",
            f"seconds of {what} by {name}: {pairs}; they grow as n^{growth['exponent']:.2f}",
        ]
    if "large" in found:
        large = found["large"]
        lines += [
            "",
            f"bert-base towers, {large['clips']} clips, {large['way']}: {large['seconds']:.3f} s an update, "
            f"{large['clips_per_second']:.0f} clips/s, {large['memory'] / 2**30:.1f} GiB on the device, "
            f"{large['flops'] / 1e12:.2f} TFLOP an update, {large['of_peak']:.0%} of the "
            f"{large['peak'] / 1e12:.2f} TFLOP/s of large matrix products",
        ]
    return lines
