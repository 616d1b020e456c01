"""Training updates of mmpt against a loop with transformers (peer), or plain padding to the maximum.

Both train the same model on the same batches of the embedded data, in turn, each way in a process of its own,
because ours changes how a process allocates memory (keep_freed_memory). To let the peer keep freed memory as
well, set MALLOC_MMAP_THRESHOLD_=1073741824 and MALLOC_TRIM_THRESHOLD_=2147483647, with which glibc does it in
every process. The settings of OpenMP are those of mmpt's commands for all ways.

Without dropout, the losses are compared update by update, and with what the order of sums alone does to them;
the times are those with the dropout of the config. Then how the time of an update of ours grows with the
batch and with the clips' length, and that of an epoch with the number of clips. "of peak": the share of the
speed of large matrix products, measured in turn with the updates, at which an update computes its own.

On a GPU, SignCLIP's own setting (bert-base towers, batch 448, 256 frames, 64 tokens) is measured by
    python scripts/benchmark.py train --large 448 256 64
beside the peer, which uses torch.compile there.
"""

import argparse
import contextlib
import itertools
import logging
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Taken, clocked, exponent, median_ratio, own_process, peak_memory
from benchmarks.updates import OURS, PARTS, WAYS, Products, Trainer, fresh_model, generated_batch
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
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
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
    _prepare(options, ours=True)
    device = choose_device(options.device)
    has_bf16 = computes_in("bf16", device.type)
    other = {ours: way for ours, way in OTHER[options.against].items() if ours == "fp32" or has_bf16}
    ways = [way for way in WAYS if way in other or way in other.values() or way == "fp32"]
    found: dict[str, Any] = {"device": device.type, "threads": torch.get_num_threads()}
    task, padding = _task(options)
    found["speed"] = _compare(ways, other, options.repeats, _of_recipe, options)
    found["batch"] = _sizes(task, options.updates, padding)
    if options.check and options.against != "fp32":
        found["losses"] = _losses(task, padding, device, options)
    if not options.no_scaling:
        found["growth"] = _growth(task, padding, device)
    if options.large:
        fastest = dict([*other.items()][-1:])
        ways = [*fastest.values(), *fastest] or ["fp32"]
        found["large"] = _compare(ways, fastest, options.repeats, _of_size, options)
        found["large_clips"] = options.large[0]
    sys.stdout.write("\n".join(_table(found)) + "\n")
    ratios = found["speed"]["ratio"]
    bf16 = f"{ratios['bf16']:.2f}x" if has_bf16 else f"not tried: emulated on this {device.type.upper()}"
    summary = f"train: {bf16} (bf16) {ratios.get('fp32', 1.0):.2f}x (fp32) against {options.against}"
    return found | {"summary": summary}


def _prepare(options: argparse.Namespace, ours: bool) -> None:
    """Set up a process: memory as mmpt's commands set it, or the system's default."""
    if ours:
        keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)


def _task(options: argparse.Namespace) -> tuple[Task, tuple[int, int]]:
    config = load_config(options.config, options.overrides)
    return Task(config), (config.dataset.max_video_len, config.dataset.max_len)


def _batches(task: Task) -> list[list[int]]:
    return task.dataset("train").batches(option(task.config.fairseq, "batch_size"), 1)


class Runner:
    """Updates of one way, and large products of its precision, in the process in which it is made.

    work: does `count` updates on the batches that `read` returns.
    Attributes: memory: peak of two times work, in bytes, resident or on the GPU; flops: of an update.
    """

    def __init__(
        self, trainer: Trainer, work: Callable[[], object], read: Callable[[], Sequence[dict[str, Any]]]
    ):
        self.trainer, self.work = trainer, work
        work()  # the second update has Adam's moments too
        work()
        on_gpu = trainer.device.type == "cuda"
        self.memory = torch.cuda.max_memory_allocated(trainer.device) if on_gpu else peak_memory()
        batches = read()
        self.count = len(batches)
        self.flops = trainer.flops(batches) / self.count
        self.products = Products(trainer.way, trainer.device)
        self.products()
        trainer.seconds = dict.fromkeys(PARTS, 0.0)

    def update(self) -> Taken:
        """Seconds of an update."""
        taken = clocked(self.work)
        return Taken(taken.wall / self.count, taken.cpu / self.count)

    def multiply(self) -> Taken:
        """Seconds of the products."""
        return clocked(self.products)

    def numbers(self) -> dict[str, Any]:
        """What does not change from one repeat to the next, and the share of each part of the updates."""
        spent = self.trainer.seconds
        shares = {part: seconds / sum(spent.values()) for part, seconds in spent.items()}
        return {
            "memory": self.memory,
            "flops": self.flops,
            "product_flops": self.products.flops,
            "shares": shares,
        }


def _of_recipe(options: argparse.Namespace, way: str) -> Runner:
    """Updates on the first batches of an epoch of the config."""
    _prepare(options, way in OURS)
    task, padding = _task(options)
    trainer = Trainer.of_task(task, way, choose_device(options.device))
    dataset, batches = task.dataset("train"), _batches(task)[: options.updates]
    return Runner(
        trainer,
        lambda: trainer.epoch(dataset, batches, padding),
        lambda: [trainer.read(dataset, batch, padding) for batch in batches],
    )


def _of_size(options: argparse.Namespace, way: str) -> Runner:
    """Updates of SignCLIP's towers (bert-base, six video layers) on clips of 1 to a number of frames."""
    _prepare(options, way in OURS)
    clips, frames, tokens = options.large
    device = choose_device(options.device)
    model = fresh_model(BertSettings(), vfeat_dim=609, frames=frames, video_layers=6)
    trainer = Trainer(model, _contrast(), way, device, rate=1e-5)
    if way not in OURS and device.type == "cuda":
        trainer.model.compile()
    batch = generated_batch(clips, frames, tokens, 609, vary=True)
    return Runner(trainer, lambda: trainer.update(batch), lambda: [batch])


def _compare(
    ways: list[str],
    other: dict[str, str],
    repeats: int,
    make: Callable[[argparse.Namespace, str], Runner],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Seconds of the ways' updates, in turn; other: what each way of mmpt is compared with."""
    with contextlib.ExitStack() as stack:
        runners = {}
        for way in ways:
            log.info("a process for %s", way)
            runners[way] = stack.enter_context(own_process(make, options, way))
        log.info("%d alternating repeats", repeats)
        updates: dict[str, list[Taken]] = {way: [] for way in ways}
        products: dict[str, list[Taken]] = {way: [] for way in ways}
        for _ in range(repeats):
            for times, method in ((updates, "update"), (products, "multiply")):
                for way, runner in runners.items():
                    times[way].append(runner(method))
        numbers = {way: runner("numbers") for way, runner in runners.items()}
    found: dict[str, Any] = {
        name: {way: numbers[way][name] for way in ways} for name in ("memory", "flops", "shares")
    }
    for name, field, ratio in (("seconds", "wall", "ratio"), ("processor_seconds", "cpu", "processor_ratio")):
        times = {way: [getattr(taken, field) for taken in updates[way]] for way in ways}
        found[name] = times
        found[ratio] = {ours: median_ratio(times[way], times[ours]) for ours, way in other.items()}
    found["peak"] = {way: _speed_of(numbers[way]["product_flops"], products[way]) for way in ways}
    found["of_peak"] = {
        way: _speed_of(numbers[way]["flops"], updates[way]) / found["peak"][way] for way in ways
    }
    return found


def _sizes(task: Task, updates: int, padding: tuple[int, int]) -> dict[str, Any]:
    dataset, batches = task.dataset("train"), _batches(task)[:updates]
    samples = [dataset[i] for batch in batches for i in batch]
    frames, tokens = (sum(len(s[name]) for s in samples) for name in ("vfeats", "caps"))
    return {
        "clips": len(samples) / len(batches),
        "frames": {"real": frames / len(samples), "plain": padding[0]},
        "tokens": {"real": tokens / len(samples), "plain": padding[1]},
    }


def _speed_of(flops: float, times: list[Taken]) -> float:
    """Operations a second, by the median time."""
    return flops / statistics.median(taken.wall for taken in times)


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


def _table(found: dict[str, Any]) -> list[str]:
    batch = found["batch"]
    frames, tokens = batch["frames"], batch["tokens"]
    lines = [
        "",
        f"{batch['clips']:.0f} clips an update, {frames['real']:.0f} frames and {tokens['real']:.0f} token "
        f"ids each (padded to the maximum: {frames['plain']} and {tokens['plain']}); {found['device']}, "
        f"threads of torch: {found['threads']}",
        "",
        *_rows(found["speed"]),
    ]
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
        seconds = found["large"]["seconds"]
        speeds = ", ".join(
            f"{way}: {found['large_clips'] / statistics.median(times):.0f}" for way, times in seconds.items()
        )
        lines += [
            "",
            f"bert-base towers, {found['large_clips']} clips; clips/s: {speeds}",
            "",
            *_rows(found["large"]),
        ]
    return lines


def _rows(speed: dict[str, Any]) -> list[str]:
    """A table of _compare, with a row for each way."""
    lines = [
        f"{'way':<9} {'s/update':>9} {'updates/s':>10} {'ratio':>7} {'processor':>10} {'memory MiB':>11}"
        f" {'GFLOP':>8} {'of peak':>8}" + "".join(f" {part:>10}" for part in PARTS),
    ]
    for way, seconds in speed["seconds"].items():
        median = statistics.median(seconds)
        ratio, cpu = (
            f"{speed[key][way]:.2f}x" if way in speed[key] else "" for key in ("ratio", "processor_ratio")
        )
        shares = "".join(f" {share:>10.1%}" for share in speed["shares"][way].values())
        lines.append(
            f"{way:<9} {median:>9.3f} {1 / median:>10.3f} {ratio:>7} {cpu:>10}"
            f" {speed['memory'][way] / 2**20:>11.0f}"
            f" {speed['flops'][way] / 1e9:>8.1f} {speed['of_peak'][way]:>8.0%}{shares}"
        )
    lines += ["", *(f"  {way}: {WAYS[way]}" for way in speed["seconds"])]
    peaks = {
        way: f"{peak / 1e12:.2f} TFLOP/s" for way, peak in speed["peak"].items() if way in ("fp32", "bf16")
    }
    return [
        *lines,
        f"  peak, by large matrix products: {', '.join(f'{p} in {way}' for way, p in peaks.items())}",
    ]
