"""The tasks of a run inside one Slurm allocation: each stage is an srun step over its nodes.

What slurm/em_iter.sh uses, for sites and people that prefer one job to a chain.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from lt_hpc.cluster import reconcile
from lt_hpc.cluster.runner import Run
from lt_hpc.cluster.slurm import client
from lt_hpc.errors import ConfigError, StageError
from lt_hpc.run import state
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.atomic import append_line
from lt_hpc.store.paths import RunPaths


class AllocationTasks:
    """See `runner.Tasks`. One step at a time: a step has all nodes that its stage can use."""

    slots = 1
    grace_seconds = 270.0
    """Of the 300 that slurm/em_iter.sh asks for."""

    def __init__(self, plan: Plan, paths: RunPaths, environment: Mapping[str, str]) -> None:
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
        # Ranks can't go on without each other; tasks of an E-step can, and save at their own pace.
        together = int(run.stage.name != "sample")
        command = [
            *("srun", f"--kill-on-bad-exit={together}", "--wait=0", f"--cpus-per-task={cpus}", *size),
            *self.plan.config.slurm.srun_options,
            *(sys.executable, "-m", "lt_hpc.stages"),
            *(str(self.paths.root), self.plan.fingerprint, run.stage.key),
        ]
        if run.shards:
            command += ["--shards", ",".join(map(str, run.shards))]
        return command

    def environment(self, run: Run, slots: Sequence[int]) -> dict[str, str]:
        return {
            "OMP_NUM_THREADS": os.environ.get("SLURM_CPUS_PER_TASK", "1"),
            "LT_ATTEMPT": run.attempt,
            "LT_RENDEZVOUS": "slurm",
        }


def own_job(environment: Mapping[str, str]) -> str:
    """The id of the allocation's job.

    Raises:
        ConfigError: outside of an allocation.
    """
    if "SLURM_JOB_ID" not in environment:
        raise ConfigError("--cluster allocation: no Slurm allocation here; use sbatch slurm/em_iter.sh")
    return client.own_id(environment)


def iterations_of(paths: RunPaths, job: str) -> int | None:
    """The iterations that an earlier start of this job set out to reach: a requeued job must not
    go on to yet another one."""
    chosen = [r for r in reconcile.records(paths) if r["event"] == "allocation" and r["job"] == job]
    return int(chosen[-1]["iterations"]) if chosen else None


def claim(paths: RunPaths, job: str, iterations: int) -> None:
    """Note that this job works on the run."""
    line = {"event": "allocation", "run": reconcile.run_id(paths), "job": job, "iterations": iterations}
    append_line(paths.jobs, line)


def requeue(job: str) -> None:
    """Put this allocation's job back into the queue, where the site allows it."""
    try:
        done = client.requeue(job)
    except StageError as error:
        print(f"not requeued, submit it again to go on: {error}", flush=True)
    else:
        print("requeued" if done else "not requeued: cancelled, or requeued by Slurm", flush=True)
