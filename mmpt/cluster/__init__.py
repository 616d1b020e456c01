"""Commands as jobs of a cluster: SLURM, or this machine, through submitit."""
