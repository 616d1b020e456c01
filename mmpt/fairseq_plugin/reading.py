"""fairseq's iterator over the batches of an epoch, which can end before the last one."""

import contextlib
import queue

from fairseq.data.iterators import EpochBatchIterator


class Batches(EpochBatchIterator):
    """fairseq's EpochBatchIterator, with an end for what reads ahead."""

    def end(self) -> None:
        """End the thread and the workers that read ahead.

        Where a loop stops before the last batch (max_valid_steps, max_update, a signal), fairseq leaves them:
        the thread waits forever to hand over its next batch, and keeps the workers.
        """
        for counted in (self._cur_epoch_itr, self._next_epoch_itr):
            buffered = getattr(counted, "_itr", None)
            thread = getattr(buffered, "_consumer", None)
            if thread is None:
                continue
            thread._max_len = 0  # it ends after the batch at hand
            while thread.is_alive():
                with contextlib.suppress(queue.Empty):
                    thread._queue.get(timeout=0.01)
