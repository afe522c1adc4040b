"""A scheduler whose queue is in memory, for tests of what is submitted to one."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from lt_hpc.cluster import reconcile
from lt_hpc.cluster.scheduler import Gone, Limits, Notice, Queued, Tasks
from lt_hpc.cluster.slurm.scheduler import limits
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.run.build import build_plan
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths

SOURCES = {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"}


def make_plan(*overrides: str, iterations: int = 1) -> Plan:
    config = load_config(demo_file(), list(overrides))
    return build_plan(config, iterations, dict(SOURCES))


@dataclass
class Cluster:
    """A queue in memory: what was submitted stays in it until the test takes it out."""

    name = "slurm"
    lock_seconds = 0.0
    own_job = ""
    outlives_launch = True
    jobs_in_queue: list[Queued] = field(default_factory=list)
    jobs_gone: list[Gone] = field(default_factory=list)
    jobs_forgotten: list[Gone] = field(default_factory=list)
    waits: dict[str, set[str]] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    without: dict[str, list[str]] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(100))
    limit: int | None = None
    dies: bool = False

    def queue(self) -> list[Queued]:
        return list(self.jobs_in_queue)

    def gone(self, jobs: Collection[str]) -> list[Gone]:
        forgotten = [one for one in self.jobs_forgotten if one.job in jobs]
        return [*self.jobs_gone, *forgotten]

    def submit(
        self,
        plan: Plan,
        stage: Stage,
        name: str,
        tasks: Tasks,
        after: Collection[str],
        without: Sequence[str] = (),
    ) -> list[str]:
        job = str(next(self.ids))
        indices = range(len(tasks)) if len(tasks) > 1 else [None]
        self.jobs_in_queue += [Queued(job, index, name, "PENDING", waiting=True) for index in indices]
        self.waits[job] = set(after)
        self.stages[job] = stage.key
        self.without[job] = list(without)
        if self.dies:
            raise Died
        return [job]

    def spared(self, plan: Plan, stages: Sequence[Stage], nodes: Sequence[str]) -> dict[str, list[str]]:
        return {stage.key: list(nodes) for stage in stages}

    def avoid(self, jobs: Collection[str], nodes: Sequence[str]) -> None:
        self.without |= {job: list(nodes) for job in jobs}

    def delay(self, job: str, after: Collection[str]) -> None:
        self.waits[job] = set(after)

    def cancel(self, jobs: Collection[str]) -> None:
        self.jobs_in_queue = [
            q for q in self.jobs_in_queue if q.job not in jobs and f"{q.job}_{q.index}" not in jobs
        ]

    def requeue(self, job: str) -> bool:
        return False

    def taken_away(self, plan: Plan, stage: Stage, job: str) -> bool:
        return False

    def limits(self, plan: Plan, stages: Sequence[Stage], queued: int) -> dict[str, Limits]:
        room = None if self.limit is None else self.limit - queued
        return {stage.key: limits(plan, stage, 1001, room) for stage in stages}

    def notice(self, plan: Plan) -> Notice:
        return Notice(60, "the test")

    def wait(self) -> None:
        return

    def reconcile(self, plan: Plan, paths: RunPaths, limit: int | None = None) -> reconcile.Outcome:
        self.limit = limit
        return reconcile.reconcile(plan, paths, self)

    def jobs(self, key: str) -> list[str]:
        return sorted({q.job for q in self.jobs_in_queue if self.stages[q.job] == key})


class Died(Exception):
    """The launcher is gone."""
