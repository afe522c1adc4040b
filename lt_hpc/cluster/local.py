"""The tasks of a run on one machine: plain processes, as many at a time as configured."""

from __future__ import annotations

import os
import sys

from lt_hpc.cluster import state
from lt_hpc.cluster.plan import Plan, Stage
from lt_hpc.cluster.runner import Run
from lt_hpc.store.paths import RunPaths


class LocalTasks:
    """See `runner.Tasks`."""

    def __init__(self, plan: Plan, paths: RunPaths) -> None:
        self.plan, self.paths = plan, paths
        self.slots = plan.config.local.processes

    def split(self, stage: Stage) -> tuple[int, list[int]]:
        local = self.plan.config.local
        if stage.name == "train":
            return local.train_ranks, []
        if stage.name == "sample":
            missing = state.missing_shards(self.paths, self.plan, stage)
            return min(local.processes, len(missing)), missing
        return 1, []

    def gang(self, stage: Stage) -> bool:
        return stage.name == "train"

    def command(self, run: Run, process: int) -> list[str]:
        command = [
            *(sys.executable, "-m", "lt_hpc.stages", str(self.paths.root), self.plan.fingerprint),
            *(run.stage.key, "--task", str(process), "--tasks", str(run.tasks)),
        ]
        if run.shards:
            command += ["--shards", ",".join(map(str, run.shards))]
        return command

    def environment(self, run: Run) -> dict[str, str]:
        return {
            "OMP_NUM_THREADS": str(self.plan.config.local.threads),
            "LT_ATTEMPT": run.attempt,
            "LT_PARENT": str(os.getpid()),
        }
