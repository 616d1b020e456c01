"""Main program of a worker process: `python -m mmpt.extractors.worker_entry FD` (workers.ReaderProcess)."""

import contextlib
import os
import select
import sys
import threading
from multiprocessing.connection import Connection

from mmpt.extractors.workers import work


def main(descriptor: int) -> None:
    """Receive a reader and then sources; send messages until the other end closes."""
    threading.Thread(target=_exit_with_parent, args=(descriptor,), daemon=True).start()
    with (
        Connection(descriptor) as connection,
        contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError),
    ):
        reader = connection.recv()
        while (task := connection.recv()) is not None:
            for message in work(reader, *task):
                connection.send(message)


def _exit_with_parent(descriptor: int) -> None:
    """Exit at once when the parent process ends, so that nothing more is written."""
    poll = select.poll()
    poll.register(descriptor, 0)  # a hang-up is always reported
    poll.poll()
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
