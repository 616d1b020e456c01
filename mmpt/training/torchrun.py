"""torchrun that ends as the command it runs: `python -m mmpt.training.torchrun [torchrun's arguments]`.

torchrun adds a traceback to the error that the process has printed, and exits with status 1. This command
exits with the status of the process that failed first.
"""

import logging
import signal
import sys

from mmpt.utils.errors import UserError, run_cli


def main(argv: list[str] | None = None) -> int:
    """Start the processes and wait for them."""
    return run_cli(_run, sys.argv[1:] if argv is None else argv)


def _run(argv: list[str]) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.run import parse_args, run

    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    options = parse_args(argv)
    try:
        run(options)
    except RendezvousError as error:
        raise UserError(
            f"the nodes did not find each other at {options.rdzv_endpoint} ({error}): a node may have ended, "
            "or the network does not allow connections to that port."
        ) from None
    except SignalException as stopped:  # torchrun received a signal and has stopped the processes
        return 128 + stopped.sigval
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        print(f"error: process {rank} was killed by {name}; the others were stopped.", file=sys.stderr)
        return 128 - failure.exitcode
    return 0


if __name__ == "__main__":
    sys.exit(main())
