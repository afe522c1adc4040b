"""A run on one machine: each task is a plain process, as many at a time as configured."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lt_hpc.cluster import devices
from lt_hpc.cluster.place import Place
from lt_hpc.cluster.scheduler import Notice
from lt_hpc.config.schema import Config
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths


class Local:
    """See `processes.Launcher`. Where there are GPUs, a slot is one of them (or as many as an engine
    is parallel over): any task may take all of its memory."""

    name = "local"
    lock_seconds = 0.0
    own_job = ""
    grace_seconds = 120.0

    def __init__(self, paths: RunPaths, config: Config) -> None:
        self.paths = paths
        self.devices = devices.visible(os.environ)
        self.slot_devices = config.sample.devices_per_engine
        self.slots = config.local.processes
        if self.devices:
            self.slots = min(self.slots, max(1, len(self.devices) // self.slot_devices))

    def ranks(self, plan: Plan) -> int:
        ranks = plan.config.local.train_ranks
        return min(ranks, len(self.devices)) if self.devices else ranks

    def command(self, plan: Plan, stage: Stage, shards: Sequence[int]) -> list[str]:
        root = str(self.paths.root)
        return [sys.executable, "-m", "lt_hpc.stages", root, plan.fingerprint, stage.key]

    def environment(self, plan: Plan, place: Place, slots: Sequence[int]) -> dict[str, str]:
        environment = {"OMP_NUM_THREADS": str(plan.config.local.threads), **place.to_environment()}
        if self.devices:
            mine = [one for slot in slots for one in devices.share(self.devices, slot, self.slot_devices)]
            # All slots are all GPUs, also where an engine's size leaves some over.
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine if len(slots) < self.slots else self.devices)
        return environment

    def notice(self, plan: Plan) -> Notice:
        return Notice(self.grace_seconds, "the time that tasks get to save")

    def requeue(self, job: str) -> bool:
        return False
