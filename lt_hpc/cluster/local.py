"""The tasks of a run on one machine: plain processes, as many at a time as configured."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lt_hpc.cluster import devices
from lt_hpc.cluster.runner import Run
from lt_hpc.run import state
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths


class LocalTasks:
    """See `runner.Tasks`. Where there are GPUs, a slot is one of them (or as many as an engine is
    parallel over): any task may take all of its memory."""

    grace_seconds = 120.0

    def __init__(self, plan: Plan, paths: RunPaths) -> None:
        self.plan, self.paths = plan, paths
        self.slots, self.ranks = plan.config.local.processes, plan.config.local.train_ranks
        self.devices = devices.visible(os.environ)
        self.slot_devices = devices.of_an_engine(plan.config.sample)
        if self.devices:
            self.slots = min(self.slots, max(1, len(self.devices) // self.slot_devices))
            self.ranks = min(self.ranks, len(self.devices))

    def split(self, stage: Stage) -> tuple[int, list[int]]:
        if stage.name == "train":
            return self.ranks, []
        if stage.name == "sample":
            missing = state.missing_shards(self.paths, self.plan, stage)
            return min(self.slots, len(missing)), missing
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

    def environment(self, run: Run, slots: Sequence[int]) -> dict[str, str]:
        environment = {
            "OMP_NUM_THREADS": str(self.plan.config.local.threads),
            "LT_ATTEMPT": run.attempt,
            "LT_PARENT": str(os.getpid()),
        }
        if self.devices:
            mine = [one for slot in slots for one in devices.share(self.devices, slot, self.slot_devices)]
            # All slots are all GPUs, also where an engine's size leaves some over.
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine if len(slots) < self.slots else self.devices)
        return environment
