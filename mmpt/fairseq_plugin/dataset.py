"""MMDataset as a FairseqDataset."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from fairseq.data import FairseqDataset
from torch.utils.data import get_worker_info

from mmpt.datasets.mmdataset import MMDataset, collate
from mmpt.utils.distributed import world_size
from mmpt.utils.errors import UserError


class FairseqMMDataset(FairseqDataset):
    """Hands MMDataset's samples and batches to fairseq.

    fixed_padding: (max_video_len, max_len) that every batch is padded to, as in the ancestor; None: to its
    own longest. common_batches: the batches of the processes are parts of common ones (see
    MMDataset.batches).
    """

    def __init__(
        self,
        dataset: MMDataset,
        fixed_padding: tuple[int, int] | None = None,
        common_batches: bool = False,
    ):
        super().__init__()
        self.dataset = dataset
        self._common_batches = common_batches
        video_len, text_len = fixed_padding or (None, None)
        self._collate = partial(
            collate, pad_id=dataset.text_processor.pad_id, video_len=video_len, text_len=text_len
        )

    supports_fetch_outside_dataloader = False
    """fairseq then does not read the first batch of every epoch once more, to fill up with."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.dataset[index]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The samples of a batch."""
        return self.dataset.__getitems__(indices)

    def __len__(self) -> int:
        return len(self.dataset)

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch; of no samples, one clip marked `filler`, which has no loss.

        fairseq asks for a batch of no samples where a process has fewer batches than others. It would repeat
        a batch with weight 0, and with gradient accumulation (update_freq) that weight would also apply to
        the other batches of the process in the same update.
        """
        batch = {**self._collate(samples or [self[0]]), "filler": not samples}
        if get_worker_info() is not None:
            _share(batch)
        return batch

    def batches(self, batch_size: int) -> list[list[int]]:
        """The batches of this epoch for all processes, which take turns."""
        processes = world_size() if self._common_batches else 1
        return self.dataset.batches(batch_size, self.dataset.epoch, processes)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that augmentation and batches are drawn for."""
        self.dataset.set_epoch(epoch)


def _share(batch: dict[str, Any]) -> None:
    """Move a worker's batch to shared memory. Raises UserError if it is too small.

    Otherwise a thread does so when the batch is sent: it prints the error, and training waits forever.
    """
    try:
        for value in batch.values():
            if isinstance(value, torch.Tensor):
                value.share_memory_()
    except RuntimeError as error:
        raise UserError(
            f"a batch does not fit into shared memory ({str(error).splitlines()[0]}): give the machine more "
            "(docker run --shm-size), or set a lower fairseq.dataset.num_workers."
        ) from None
