"""Slurm as a scheduler: jobs and job arrays that outlive the launch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from lt_hpc.cluster.scheduler import Gone, Limits, Notice, Queued, Tasks
from lt_hpc.cluster.slurm import client
from lt_hpc.cluster.slurm.site import Site
from lt_hpc.errors import ConfigError
from lt_hpc.kinds import KINDS
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths


class Slurm:
    """See `scheduler.Scheduler`. `run` is the function that a job runs, with a list of strings.

    Raises:
        ConfigError: for a run folder in whose path sbatch would expand something.
    """

    name = "slurm"
    lock_seconds = 120.0
    own_job = ""
    outlives_launch = True

    def __init__(self, paths: RunPaths, run: Callable[[list[str]], None]) -> None:
        root = str(paths.root.resolve())
        if "%" in root or "\\" in root:
            raise ConfigError(
                f"--run-dir {root}: Slurm expands % and \\ in the paths of logs; use another name"
            )
        self.paths, self.run = paths, run

    def queue(self) -> list[Queued]:
        return client.queue()

    def gone(self, jobs: Collection[str]) -> list[Gone]:
        return client.gone(jobs)

    def submit(
        self,
        plan: Plan,
        stage: Stage,
        name: str,
        tasks: Tasks,
        after: Collection[str],
        without: Sequence[str] = (),
    ) -> list[str]:
        from lt_hpc.cluster.slurm import submit

        def attempt() -> list[str]:
            return submit.submit(plan, stage, self.paths, self.run, name, tasks, after, without)

        # The controller may have taken the job and answered too late: submitit did not put its
        # files in place, so that it could only fail.
        return client.retried(attempt, between=lambda: client.cancel(client.with_name(name)))

    def spared(self, plan: Plan, stages: Sequence[Stage], nodes: Sequence[str]) -> dict[str, list[str]]:
        site = client.site()
        return {stage.key: spared_at(site, plan, stage, nodes) for stage in stages}

    def avoid(self, jobs: Collection[str], nodes: Sequence[str]) -> None:
        client.set_excluded(jobs, nodes)

    def delay(self, job: str, after: Collection[str]) -> None:
        client.set_dependency(job, after)

    def cancel(self, jobs: Collection[str]) -> None:
        client.cancel(jobs)

    def requeue(self, job: str) -> bool:
        return client.requeue(job)

    def taken_away(self, plan: Plan, stage: Stage, job: str) -> bool:
        return client.taken_away(job, plan.config.slurm.where(stage.name))

    def limits(self, plan: Plan, stages: Sequence[Stage], queued: int) -> dict[str, Limits]:
        site = client.site(nodes=False)
        return {stage.key: limits_at(site, plan, stage, queued) for stage in stages}

    def notice(self, plan: Plan) -> Notice:
        """Whatever ends the job: the time limit's warning, or preemption where that gives less."""
        seconds = plan.config.slurm.signal_seconds
        ranked = next(kind.name for kind in KINDS if kind.ranked)
        return client.notice(plan.config.slurm.where(ranked), seconds, f"slurm.signal_seconds={seconds}")

    def wait(self) -> None:
        return


def spared_at(site: Site, plan: Plan, stage: Stage, nodes: Sequence[str]) -> list[str]:
    """Of some nodes, the worst first, those that jobs of a stage leave out: at most slurm.excluded_share of
    the nodes that they may run on, so many that enough are left, and none where they ask for nodes by name.
    Before them what the user excludes, as it is written. Pure."""
    settings, job = plan.config.slurm, plan.config.slurm.job(stage.name)
    options = {**settings.options, **job.options}
    if {"nodelist", "nodefile"} & options.keys():
        return []
    where = settings.where(stage.name)
    names = where.partition.split(",") if where.partition else [None]
    partitions = [found.name for name in names if (found := site.partition(name)) is not None]
    own = {node.name: node for name in partitions for node in site.nodes_of(name, where.constraint)}
    chosen = [name for name in nodes if name in own][: int(settings.excluded_share * len(own))]
    while chosen and sum(node.usable and name not in chosen for name, node in own.items()) < job.nodes:
        chosen.pop()
    return [*filter(None, [options.get("exclude")]), *chosen] if chosen else []


def limits_at(site: Site, plan: Plan, stage: Stage, queued: int) -> Limits:
    """How a site lets a stage's shards be spread, with so many jobs and array tasks in the queue. Pure."""
    most = site.submit_limit(plan.config.slurm.where(stage.name))
    return limits(plan, stage, site.number("MaxArraySize", 1001), None if most is None else most - queued)


def limits(plan: Plan, stage: Stage, max_array_size: int, room: int | None) -> Limits:
    """How a stage's shards may be spread over jobs. Pure."""
    settings, job = plan.config.slurm, plan.config.slurm.job(stage.name)
    return Limits(
        processes=job.nodes * job.tasks_per_node,
        array_size=min(settings.max_array_size, max_array_size),
        tasks=settings.max_array_tasks,
        room=room,
    )
