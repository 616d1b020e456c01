"""Embed the clips of a split, at once or in shards (see mmpt/utils/shards.py)."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.utils.arrays import save_npz
from mmpt.utils.errors import UserError
from mmpt.utils.progress import Progress
from mmpt.utils.shards import ShardFolder, Sharding

_PARTS = "parts"


class SplitEmbedding:
    """The clips of a split and what embeds them.

    dataset: of Task. predictor: embeds pools of clips, which are computed together; a shard gets every N-th.
    blank: whether features show no hand.
    """

    def __init__(self, dataset: Any, predictor: Any, blank: Any):
        self.dataset, self.predictor, self.blank = dataset, predictor, blank
        self.starts = range(0, len(dataset.examples), predictor.pool)

    def embed(
        self, sharding: Sharding, shards: Sequence[ShardFolder]
    ) -> tuple[NDArray[np.float32], list[str]] | None:
        """The embedding of each clip and the ids of blank ones; None for a shard, which only saves them.

        shards: see Sharding.locked. Raises UserError if a shard lacks embeddings.
        """
        if sharding.shard is not None:
            self._embed_shard(shards[0])
            return None
        if sharding.merge:
            return self._merged(shards)
        return self._embed(range(len(self.dataset.examples)))

    def _embed(self, indices: Iterable[int]) -> tuple[NDArray[np.float32], list[str]]:
        blank: list[str] = []

        def clips() -> Iterator[NDArray[np.float32]]:
            for index in indices:
                frames = self.dataset[index]["vfeats"]
                if self.blank(frames):
                    blank.append(self.dataset.examples[index].video_id)
                yield frames

        return self.predictor.embed_videos(clips()), blank

    def _embed_shard(self, shard: ShardFolder) -> None:
        mine = [start for number, start in enumerate(self.starts) if shard.shard.has_number(number)]
        todo = [start for start in mine if not _file(shard, start).is_file()]
        pools = {start: self._pool(start) for start in mine}
        total = sum(len(pools[start]) for start in todo)
        before = sum(map(len, pools.values())) - total
        with Progress(total, record=shard.record_progress, before=before) as progress:
            for start in todo:
                vectors, blank = self._embed(pools[start])
                names = np.frombuffer(json.dumps(blank).encode(), np.uint8)
                save_npz(_file(shard, start), vectors=vectors, blank=names)
                for _ in pools[start]:
                    progress.advance()
                progress.show(0)

    def _merged(self, shards: Sequence[ShardFolder]) -> tuple[NDArray[np.float32], list[str]]:
        vectors, blank = [], list[str]()
        for number, start in enumerate(self.starts):
            shard = shards[number % len(shards)]
            if not _file(shard, start).is_file():
                raise UserError(
                    f"--merge: shard {shard.shard} has no embeddings of "
                    f"{self.dataset.examples[start].video_id} and the clips after it: run the command with "
                    f"--shard {shard.shard}."
                )
            with np.load(_file(shard, start), allow_pickle=False) as part:
                vectors.append(part["vectors"])
                blank += json.loads(part["blank"].tobytes())
        return np.concatenate(vectors), blank

    def _pool(self, start: int) -> range:
        return range(start, min(start + self.predictor.pool, len(self.dataset.examples)))


def _file(shard: ShardFolder, start: int) -> Path:
    return shard.path / _PARTS / f"{start:09d}.npz"
