"""Where the processes of a training on several nodes meet: variables that torchrun reads on each node."""

import os
from typing import Any

_FIRST_PORT, _PORTS = 20_000, 10_000


def rendezvous_environment(job: Any) -> dict[str, str]:
    """torchrun's options for a job on several nodes, as environment variables (`PET_` and the option's name).

    job: submitit's JobEnvironment. The first node's address is the one that SLURM's own connections use, as
    names of nodes need not be names of hosts. The port follows from the job's number, so that all nodes know
    it and jobs that share a node differ.
    """
    number = int("".join(filter(str.isdigit, job.raw_job_id)))
    address = os.environ.get("SLURM_LAUNCH_NODE_IPADDR") or job.hostnames[0]
    return {
        "PET_NNODES": str(job.num_nodes),
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ID": job.job_id,
        "PET_RDZV_ENDPOINT": f"{address}:{_FIRST_PORT + number % _PORTS}",
        "PET_RDZV_CONF": f"is_host={int(job.node == 0)}",
    }
