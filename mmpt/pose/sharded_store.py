"""A pose cache in several files (shards), opened as one; each is built on its own, by any process."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from zlib import crc32

import numpy as np

from mmpt.pose.clip import PoseClip
from mmpt.pose.store import PoseStore, StoreRequest


class ShardedStore:
    """`store[i]` is the prepared clip of `request.paths[i]`, like PoseStore, from one of several files.

    A clip's file follows from a hash of its source's path, so that a new clip changes one file only.
    """

    def __init__(self, shard_of: np.ndarray, stores: dict[int, PoseStore]):
        self._shard_of = shard_of
        self._stores = stores
        self._row = np.zeros(len(shard_of), dtype=np.int32)
        for shard in stores:
            mine = shard_of == shard
            self._row[mine] = np.arange(np.count_nonzero(mine))

    @classmethod
    def build_or_open(cls, request: StoreRequest, shards: int) -> "ShardedStore":
        """Open the files of the request; build what is missing (see PoseStore.build_or_open)."""
        shard_of = shards_of(request, shards)
        return cls(shard_of, dict(open_shards(request, shard_of, range(shards))))

    def __len__(self) -> int:
        return len(self._shard_of)

    def __getitem__(self, i: int) -> PoseClip:
        """See PoseStore."""
        return self.part(i, slice(None))

    def part(self, i: int, frames: slice) -> PoseClip:
        """See PoseStore."""
        i = range(len(self))[i]
        return self._stores[int(self._shard_of[i])].part(int(self._row[i]), frames)

    @property
    def bad(self) -> dict[int, str]:
        """See PoseStore."""
        found: dict[int, str] = {}
        for shard, store in self._stores.items():
            if store.bad:
                rows = np.flatnonzero(self._shard_of == shard)
                found |= {int(rows[row]): reason for row, reason in store.bad.items()}
        return dict(sorted(found.items()))

    @property
    def lengths(self) -> np.ndarray:
        """See PoseStore."""
        return self._gather("lengths")

    @property
    def rates(self) -> np.ndarray:
        """See PoseStore."""
        return self._gather("rates", np.float64)

    @property
    def seen(self) -> np.ndarray:
        """See PoseStore."""
        return self._gather("seen")

    def _gather(self, name: str, dtype: type = np.int32) -> np.ndarray:
        values: np.ndarray = np.zeros(len(self), dtype=dtype)
        for shard, store in self._stores.items():
            values[self._shard_of == shard] = getattr(store, name)
        return values


def shards_of(request: StoreRequest, shards: int) -> np.ndarray:
    """The shard of each clip, int32 [N]: a hash of its source's path."""
    hashes = [crc32(source.encode("utf-8", "surrogateescape")) for source in request.sources]
    return (np.array(hashes, dtype=np.int64) % shards).astype(np.int32)


def open_shards(
    request: StoreRequest, shard_of: np.ndarray, chosen: Collection[int]
) -> Iterator[tuple[int, PoseStore]]:
    """Open or build the files of some shards, one after the other. A shard without clips has none."""
    order = np.argsort(shard_of, kind="stable")
    bounds = np.searchsorted(shard_of[order], np.arange(max(chosen, default=0) + 2))
    for shard in chosen:
        rows = order[bounds[shard] : bounds[shard + 1]].tolist()
        if rows:
            yield shard, PoseStore.build_or_open(_part(request, rows))


def _part(request: StoreRequest, rows: list[int]) -> StoreRequest:
    mirrored, spans = request.mirrored, request.spans
    return replace(
        request,
        paths=[request.sources[row] for row in rows],
        mirrored=None if mirrored is None else [mirrored[row] for row in rows],
        spans=None if spans is None else [spans[row] for row in rows],
    )
