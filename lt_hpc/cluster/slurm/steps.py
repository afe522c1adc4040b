"""A run inside one allocation: each stage is an srun step over its nodes.

What slurm/em_iter.sh uses, for sites and people that prefer one job to a chain.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lt_hpc.cluster.place import Place
from lt_hpc.cluster.scheduler import Notice
from lt_hpc.cluster.slurm import client
from lt_hpc.cluster.slurm.environment import Allocation
from lt_hpc.config.machines import Where
from lt_hpc.kinds import Kind
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths


class Steps:
    """See `processes.Launcher`. One step at a time: a step has all nodes that its stage can use."""

    name = "allocation"
    lock_seconds = 120.0
    slots = 1
    grace_seconds = 270.0
    """Seconds that tasks get to save; less than the 300 s of `--signal` in slurm/em_iter.sh."""

    def __init__(self, paths: RunPaths, allocation: Allocation) -> None:
        self.paths, self.allocation, self.own_job = paths, allocation, allocation.job

    def ranks(self, plan: Plan) -> int:
        return 1  # srun starts the ranks

    def command(self, plan: Plan, stage: Stage, shards: Sequence[int]) -> list[str]:
        given = self.allocation
        tasks = 1 if stage.kind.tasks == "one" else given.tasks
        tasks = min(tasks, len(shards)) if shards else tasks
        return [
            *("srun", *srun_options(stage.kind, given.cpus_per_task)),
            *(f"--nodes={min(given.nodes, tasks)}", f"--ntasks={tasks}"),
            *plan.config.slurm.srun_options,
            *(sys.executable, "-m", "lt_hpc.stages"),
            *(str(self.paths.root), plan.fingerprint, stage.key),
        ]

    def environment(self, plan: Plan, place: Place, slots: Sequence[int]) -> dict[str, str]:
        return {"OMP_NUM_THREADS": self.allocation.cpus_per_task}

    def notice(self, plan: Plan) -> Notice:
        where = Where(partition=self.allocation.partition)
        return client.notice(where, self.grace_seconds, "--signal of slurm/em_iter.sh")

    def requeue(self, job: str) -> bool:
        return client.requeue(job)


def srun_options(kind: Kind, cpus_per_task: int | str) -> list[str]:
    """How srun starts the tasks of a stage. A literal --cpus-per-task: since Slurm 22.05 srun does
    not inherit it from the job. Ranks can't go on without each other; tasks that share shards can,
    and none waits for the others."""
    together = 0 if kind.sharded else 1
    return [f"--kill-on-bad-exit={together}", "--wait=0", f"--cpus-per-task={cpus_per_task}"]
