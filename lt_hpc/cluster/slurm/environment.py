"""What Slurm tells a job by environment variables: the only file that reads them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lt_hpc.cluster.place import Place

_INHERITED = (
    *("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SALLOC_", "SQUEUE_", "SCANCEL_", "SCONTROL_"),
    *("SACCT", "SREPORT_", "SSTAT_", "SINFO_", "PMI", "SUBMITIT_"),
)
_ACCESS = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"}


def place(environment: Mapping[str, str], host: str | None = None) -> Place:
    """The place of a process that srun started. `host`: the address of its node."""
    job, restart = environment["SLURM_JOB_ID"], attempt(environment)[1]
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


def attempt(environment: Mapping[str, str]) -> tuple[str, int]:
    """The id of the job whose script this process is of, and how often it was started before."""
    return own_job(environment), int(environment.get("SLURM_RESTART_COUNT", "0"))


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


def clean_environment(environment: Mapping[str, str], plan_leaves: Collection[str] = ()) -> dict[str, str]:
    """The environment in which Slurm's commands are called: without what a shell or a surrounding job
    says to them, which would hide jobs from squeue (SQUEUE_STATES), or beat what the plan asks for
    (SBATCH_TIMELIMIT, SLURM_CPU_BIND). The cluster and the user's access to it stay, and so do the SBATCH_
    variables of the options that the plan leaves open (`plan_leaves`, names of sbatch options)."""
    kept = _ACCESS | {f"SBATCH_{name.upper()}" for name in plan_leaves}
    return {key: value for key, value in environment.items() if key in kept or not key.startswith(_INHERITED)}
