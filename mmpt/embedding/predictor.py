"""Embed clips and prompts in length-sorted batches; results are float32 NumPy arrays."""

import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import nn

from mmpt.models.clip_windows import WindowOptions
from mmpt.registry import Registry
from mmpt.utils.arrays import padded
from mmpt.utils.device import put
from mmpt.utils.errors import UserError
from mmpt.utils.progress import Bar

log = logging.getLogger(__name__)

_FRAMES_AT_ONCE = 64 * 256
"""Frames, with padding, in the batches that threads compute at once; bounds the memory."""
_VALUES_AT_ONCE = 1 << 28
"""Values of the clips that are sorted by length at once (1 GiB)."""
_spreading = threading.Lock()

PREDICTORS: Registry["type[Predictor]"] = Registry("predictor")


@PREDICTORS.register("RetrievalPredictor")
class Predictor:
    """Embeds with `model.encode_video(vfeats, vmasks)` and `model.encode_text(caps, cmasks)`.

    model: moved to `device`. batch_size: clips or prompts per batch. progress: show a progress bar on a
    terminal. pool: clips that are read and sorted by length at once. A model that divides long clips into
    windows (see ClipWindows) gets batches of at most batch_size windows, or one clip.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
        progress: bool = True,
        pool: int = 4096,
    ):
        if batch_size < 1:
            raise UserError(f"the batch size of the evaluation must be at least 1, got {batch_size}.")
        self.device = torch.device(device)
        self.model: Any = model.to(self.device)
        self.batch_size = batch_size
        self.progress = progress
        self.pool = max(pool, batch_size)

    def embed_videos(self, videos: Iterable[ArrayLike]) -> NDArray[np.float32]:
        """Embeddings [n_videos, H] of clips [T, D], in input order.

        Raises UserError if a clip is empty or not a matrix, if feature dimensions differ, or without clips.
        """
        total = len(videos) if isinstance(videos, Sequence) else None
        source = iter(videos)
        done: list[NDArray[np.float32]] = []
        with self._inference(), self._bar(total, "clips") as bar:
            count, width = 0, -1
            while pool := self._pool(source, count):
                width = pool[0].shape[1] if width < 0 else width
                for i, x in enumerate(pool):
                    if x.shape[1] != width:
                        raise UserError(
                            f"clip number {count + i} has feature dimension {x.shape[1]}, those before "
                            f"it {width}."
                        )
                lengths = [len(x) for x in pool]
                done.append(self._embed(lengths, lambda i, p=pool: self._videos(p, i), bar, self.windows))
                count += len(pool)
        if not done:
            raise UserError("there are no clips to embed.")
        return np.concatenate(done)

    def embed_texts(self, texts: Iterable[tuple[ArrayLike, ArrayLike]]) -> NDArray[np.float32]:
        """Embeddings [n_texts, H] of (caps, cmasks) pairs of shape [L], in input order.

        Each distinct prompt is encoded once. Raises UserError if the shapes of a pair differ, or if there is
        none.
        """
        numbers: dict[bytes, int] = {}
        rows: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []
        index: list[int] = []
        for caps, cmasks in texts:
            ids, mask = np.asarray(caps, dtype=np.int64), np.asarray(cmasks, dtype=bool)
            if ids.ndim != 1 or ids.shape != mask.shape or not mask.any():
                got = f"{ids.shape}, {mask.shape}"
                raise UserError(
                    f"expected prompts as token ids and a mask of one length, not all masked; got {got}."
                )
            length = int(np.flatnonzero(mask)[-1]) + 1  # drop the padding
            ids, mask = ids[:length], mask[:length]
            key = ids.tobytes() + mask.tobytes()
            if key not in numbers:
                numbers[key] = len(rows)
                rows.append((ids, mask))
            index.append(numbers[key])
        if not rows:
            raise UserError("there are no prompts to embed.")
        with self._inference(), self._bar(len(rows), "prompts") as bar:
            embedded = self._embed([len(ids) for ids, _ in rows], lambda i: self._texts(rows, i), bar)
        return embedded[index]

    @property
    def windows(self) -> WindowOptions | None:
        """How the model divides long clips."""
        found: WindowOptions | None = getattr(self.model, "windows", None)
        return found

    def _pool(self, source: Iterator[ArrayLike], count: int) -> list[NDArray[np.float32]]:
        """The next clips: `pool` of them, fewer if they are large; `count` came before."""
        pool: list[NDArray[np.float32]] = []
        values = 0
        for video in itertools.islice(source, self.pool - count % self.pool):
            pool.append(_clip(video, count + len(pool)))
            values += pool[-1].size
            if values > _VALUES_AT_ONCE:
                break
        return pool

    def _embed(
        self, lengths: list[int], encode: Any, bar: Any, windows: WindowOptions | None = None
    ) -> NDArray[np.float32]:
        """Encode in length-sorted batches, longest first, so that too large a batch fails at once."""
        order = np.argsort(-np.asarray(lengths), kind="stable")
        batches = self._batches(order, np.asarray(lengths), windows)

        def compute(chosen: NDArray[np.int64]) -> NDArray[np.float32]:
            with torch.inference_mode():  # a setting of a thread
                return encode(chosen).float().cpu().numpy()

        result: NDArray[np.float32] | None = None
        with _spread(self._at_once(len(batches), max(lengths))) as spread:
            for chosen, pooled in zip(batches, spread(compute, batches)):
                if result is None:
                    result = np.empty((len(order), pooled.shape[1]), dtype=np.float32)
                result[chosen] = pooled
                bar.update(len(chosen))
        assert result is not None
        return result

    def _batches(
        self, order: NDArray[np.int64], lengths: NDArray[np.int64], windows: WindowOptions | None
    ) -> list[NDArray[np.int64]]:
        """Clips in this order, longest first, batch_size (or windows) at a time."""
        widest = np.ones(len(order), int) if windows is None else windows.counts(lengths[order])
        batches = []
        start = 0
        while start < len(order):
            stop = start + max(1, self.batch_size // int(widest[start]))
            batches.append(order[start:stop])
            start = stop
        return batches

    def _at_once(self, batches: int, longest: int) -> int:
        """How many batches to compute at once, each with one thread; 1 if most cores would be idle."""
        cores = torch.get_num_threads()
        count = min(cores, batches, _FRAMES_AT_ONCE // (self.batch_size * longest))
        return count if self.device.type == "cpu" and 2 * count >= cores else 1

    def _videos(self, clips: list[NDArray[np.float32]], chosen: NDArray[np.int64]) -> torch.Tensor:
        rows = [clips[i] for i in chosen]
        masks = [np.ones(len(row), bool) for row in rows]
        return self.model.encode_video(self._padded(rows, np.float32), self._padded(masks, bool))

    def _texts(self, rows: list[tuple[NDArray, NDArray]], chosen: NDArray[np.int64]) -> torch.Tensor:
        ids, masks = zip(*(rows[i] for i in chosen))
        return self.model.encode_text(self._padded(ids, np.int64), self._padded(masks, bool))

    def _padded(self, rows: Sequence[NDArray], dtype: DTypeLike) -> torch.Tensor:
        return put(torch.from_numpy(padded(rows, 0, dtype)), self.device)

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        """No gradients, no dropout; restores the model's training mode."""
        training = [module for module in self.model.modules() if module.training]
        if training:  # a large part of the time of a single clip
            self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            for module in training:
                module.training = True

    def _bar(self, total: int | None, unit: str) -> Any:
        # disable=None: on a terminal only
        return Bar(
            total=total, desc=f"embedding {unit}", unit=unit[:-1], disable=None if self.progress else True
        )


@contextlib.contextmanager
def _spread(count: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` over `count` Python threads, each with one thread of torch.

    The layers of small models are too short for torch to divide them well. With one thread of torch an
    ensemble computes its models one at a time: stacked (run_stacked) they exchange the weights of the
    first, which other threads would see.
    """
    if count < 2 or not _spreading.acquire(blocking=False):  # torch has one number of threads for all
        yield map
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(count)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
        _spreading.release()


def _clip(video: ArrayLike, number: int) -> NDArray[np.float32]:
    clip = np.ascontiguousarray(video, dtype=np.float32)
    if clip.ndim != 2 or not len(clip):
        raise UserError(
            f"clip number {number}: expected features [T, D] with at least one frame, got {clip.shape}."
        )
    return clip
