"""What Slurm tells a job by environment variables: the only file that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lt_hpc.cluster.place import Place

_INHERITED = (
    *("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SALLOC_", "SQUEUE_", "SCANCEL_", "SCONTROL_"),
    *("PMI", "SUBMITIT_"),
)


def place(environment: Mapping[str, str], host: str | None = None) -> Place:
    """The place of a process that srun started. `host`: the address of its node."""
    job, restart = environment["SLURM_JOB_ID"], int(environment.get("SLURM_RESTART_COUNT", "0"))
    return Place(
        rank=int(environment["SLURM_PROCID"]),
        count=int(environment["SLURM_NTASKS"]),
        local_rank=int(environment["SLURM_LOCALID"]),
        attempt=f"{job}-{restart}-{environment['SLURM_STEP_ID']}",
        restart=restart,
        job=own_job(environment),
        node=environment["SLURMD_NODENAME"],
        host=host,
    )


def started_by_srun(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process; the batch script of a job has a step of another kind."""
    return environment.get("SLURM_STEP_ID", "").isdigit() and "SLURM_PROCID" in environment


def own_job(environment: Mapping[str, str]) -> str:
    """The id of the job this process runs in, with its array index if it has one; empty outside."""
    array, index = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else environment.get("SLURM_JOB_ID", "")


@dataclass(frozen=True)
class Allocation:
    """What a job that runs everything inside itself was given."""

    job: str
    nodes: int
    tasks: int
    cpus_per_task: str
    partition: str | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Allocation | None:
        """The allocation of this process; None outside of one."""
        if "SLURM_JOB_ID" not in environment:
            return None
        nodes = int(environment["SLURM_JOB_NUM_NODES"])
        tasks = int(environment.get("SLURM_NTASKS", nodes))
        cpus, partition = environment.get("SLURM_CPUS_PER_TASK", "1"), environment.get("SLURM_JOB_PARTITION")
        return cls(own_job(environment), nodes, tasks, cpus, partition)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what a surrounding job put there: an inherited SLURM_CPU_BIND or
    SBATCH_ARRAY_INX would change what is submitted. SLURM_CONF names the cluster and stays. Outside of
    a job all stays: SBATCH_ACCOUNT and the like are the user's own."""
    if "SLURM_JOB_ID" not in environment:
        return dict(environment)
    return {
        key: value
        for key, value in environment.items()
        if key == "SLURM_CONF" or not key.startswith(_INHERITED)
    }
