"""Run a frozen network on windows of many clips: one window per thread on CPU, fixed-size batches on GPU.

The same window gives the same bits in any batch, so a resumed run writes the same files.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from mmpt.extractors.base import NetworkRunner
from mmpt.extractors.networks.layers import FrozenNetwork
from mmpt.utils.allocator import keep_freed_memory
from mmpt.utils.errors import UserError
from mmpt.utils.parallel import cores

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WAIT_FOR_MORE = 0.2
"""Seconds for which an incomplete GPU batch waits for another window."""


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`; "auto" is bfloat16 with hardware support, else float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))
    if name == "auto":
        return torch.bfloat16 if fast else torch.float32
    if name not in DTYPES:
        raise UserError(f"--dtype {name}: expected auto, {' or '.join(DTYPES)}.")
    if name == "bfloat16" and not fast:
        log.warning("--dtype bfloat16: %s has no fast bfloat16; float32 is faster", device)
    return DTYPES[name]


class Inference(NetworkRunner):
    """Runs windows uint8 [T, H, W, 3] through `network`, whose input is pixels / 255 + `offset`.

    Args:
        network: with its weights; frozen here, in `dtype`, on `device`.
        offset: added to pixels in [0, 1].
        threads: on a CPU, windows computed at once, one core each (0: all cores). This is faster than all
        cores on one window, especially on a shared machine.
        batch: on a GPU, windows computed at once.
        compile_for: use torch.compile for windows of this shape, which takes minutes (None: do not).
    """

    def __init__(
        self,
        network: FrozenNetwork,
        offset: float,
        device: torch.device,
        dtype: torch.dtype,
        threads: int = 0,
        batch: int = 16,
        compile_for: tuple[int, int, int, int] | None = None,
    ):
        self.offset, self.device = offset, device
        on_cpu = device.type == "cpu"
        if on_cpu:
            keep_freed_memory(one_arena=True)  # the next window needs the same blocks
        self.batch = 1 if on_cpu else batch
        self.threads = (threads or cores()) if on_cpu else 1
        fast = on_cpu and dtype == torch.float32 and compile_for is None
        if device.type == "cuda" and dtype == torch.float32:
            torch.backends.cudnn.allow_tf32 = False  # TF32 drops three digits; float32 was requested
        self.network: nn.Module | Callable[..., torch.Tensor] = network.to(device).freeze(dtype, fast)
        self._queue: queue.Queue[tuple[Any, np.ndarray]] = queue.Queue(2 * self.threads * self.batch)
        self._stopped = threading.Event()
        self._workers: list[threading.Thread] = []
        self._threads_before = torch.get_num_threads()
        if compile_for is not None:
            if on_cpu:
                torch.set_num_threads(1)  # a compiled network keeps its number of threads
            self.network = torch.compile(self.network, dynamic=False, fullgraph=True)
            self.run([np.zeros(compile_for, np.uint8)])

    def run(self, windows: list[np.ndarray]) -> np.ndarray:
        """At most `batch` windows -> tokens float32 [len(windows), D]."""
        pixels = torch.from_numpy(windows[0])[None] if self.batch == 1 else self._stacked(windows)
        with torch.inference_mode():
            frames = pixels.to(self.device, non_blocking=True).float().div_(255).add_(self.offset)
            return self.network(frames.permute(0, 4, 1, 2, 3))[: len(windows)].cpu().numpy()

    def _stacked(self, windows: list[np.ndarray]) -> torch.Tensor:
        """Always a full batch: the kernel depends on the batch size, and with it the last bits."""
        stacked = np.zeros((self.batch, *windows[0].shape), np.uint8)
        for slot, window in zip(stacked, windows):
            slot[...] = window
        return torch.from_numpy(stacked)

    def start(self, deliver: Callable[[Any, np.ndarray | BaseException], None]) -> None:
        for number in range(self.threads):
            thread = threading.Thread(
                target=self._work, args=(deliver,), name=f"network-{number}", daemon=True
            )
            thread.start()
            self._workers.append(thread)

    def submit(self, key: Any, window: np.ndarray) -> None:
        while not self._stopped.is_set():
            try:
                return self._queue.put((key, window), timeout=0.2)
            except queue.Full:
                continue

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._workers:
            thread.join()
        self._workers.clear()
        torch.set_num_threads(self._threads_before)

    def _work(self, deliver: Callable[[Any, np.ndarray | BaseException], None]) -> None:
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        while not self._stopped.is_set():
            items = self._next_items()
            if not items:
                continue
            try:
                tokens = self.run([window for _, window in items])
            except torch.OutOfMemoryError:
                what = f"{self.device} has too little memory for {self.batch} windows at once"
                return deliver(items[0][0], UserError(f"{what}: give a smaller --batch-size."))
            except Exception as error:  # re-raised in the main thread
                return deliver(items[0][0], error)
            for (key, _), token in zip(items, tokens):
                deliver(key, token)

    def _next_items(self) -> list[tuple[Any, np.ndarray]]:
        items: list[tuple[Any, np.ndarray]] = []
        try:
            while len(items) < self.batch:
                items.append(self._queue.get(timeout=WAIT_FOR_MORE))
        except queue.Empty:
            pass
        return items
