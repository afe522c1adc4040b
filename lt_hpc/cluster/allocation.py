"""The tasks of a run inside one Slurm allocation: each stage is an srun step over its nodes.

What slurm/em_iter.sh uses, for sites and people that prefer one job to a chain.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from lt_hpc.cluster import slurm, state
from lt_hpc.cluster.plan import Plan, Stage
from lt_hpc.cluster.runner import Run
from lt_hpc.errors import ConfigError
from lt_hpc.store.paths import RunPaths


class AllocationTasks:
    """See `runner.Tasks`. One step at a time: a step has all nodes that its stage can use."""

    slots = 1

    def __init__(self, plan: Plan, paths: RunPaths, environment: Mapping[str, str]) -> None:
        if "SLURM_JOB_ID" not in environment:
            raise ConfigError("--cluster allocation: no Slurm allocation here; use sbatch slurm/em_iter.sh")
        self.plan, self.paths = plan, paths
        self.nodes = int(environment["SLURM_JOB_NUM_NODES"])
        self.tasks = int(environment.get("SLURM_NTASKS", self.nodes))

    def split(self, stage: Stage) -> tuple[int, list[int]]:
        return 1, state.missing_shards(self.paths, self.plan, stage) if stage.name == "sample" else []

    def gang(self, stage: Stage) -> bool:
        return False

    def command(self, run: Run, process: int) -> list[str]:
        tasks = self.tasks if run.stage.name in ("sample", "train") else 1
        tasks = min(tasks, len(run.shards)) if run.shards else tasks
        size = [f"--nodes={min(self.nodes, tasks)}", f"--ntasks={tasks}"]
        cpus = os.environ.get("SLURM_CPUS_PER_TASK", "1")
        command = [
            *("srun", "--kill-on-bad-exit=1", f"--cpus-per-task={cpus}", *size),
            *self.plan.config.slurm.srun_options,
            *(sys.executable, "-m", "lt_hpc.stages"),
            *(str(self.paths.root), self.plan.fingerprint, run.stage.key),
        ]
        if run.shards:
            command += ["--shards", ",".join(map(str, run.shards))]
        return command

    def environment(self, run: Run) -> dict[str, str]:
        return {
            "OMP_NUM_THREADS": os.environ.get("SLURM_CPUS_PER_TASK", "1"),
            "LT_ATTEMPT": run.attempt,
            "LT_RENDEZVOUS": "slurm",
        }


def requeue() -> None:
    """Put this allocation's job back into the queue."""
    slurm.requeue(slurm.own_id(os.environ))
