"""What a worker process runs: `python -m mmpt.extractors.worker_entry FD`. See workers.ReaderProcess."""

import contextlib
import os
import select
import sys
import threading
from multiprocessing.connection import Connection

from mmpt.extractors.workers import work


def main(descriptor: int) -> None:
    """A reader comes in, then sources; messages go out, until the other end closes."""
    threading.Thread(target=_end_with_the_other_side, args=(descriptor,), daemon=True).start()
    with (
        Connection(descriptor) as connection,
        contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError),
    ):
        reader = connection.recv()
        while (task := connection.recv()) is not None:
            for message in work(reader, *task):
                connection.send(message)


def _end_with_the_other_side(descriptor: int) -> None:
    """End this process at once when the one that started it is gone, so that it writes nothing more."""
    poll = select.poll()
    poll.register(descriptor, 0)  # a hang-up is always reported
    poll.poll()
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
