"""Whether the jobs of a kind of stage can run on the partition they go to. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lt_hpc.cluster.slurm.site import Node, Partition, Site, parse_memory
from lt_hpc.config.machines import JobConfig, SlurmConfig, Where
from lt_hpc.doctor.rows import Row, Verdict, duration, size
from lt_hpc.kinds import Kind

MIB = 1024.0**2


@dataclass(frozen=True)
class Job:
    """What jobs of a kind ask for, of the partition they go to. `host_bytes`: of documents, thoughts and, on
    CPUs, the model, per node, as estimated; None: not known."""

    kind: Kind
    asked: JobConfig
    settings: SlurmConfig
    where: Where
    partition: Partition
    host_bytes: float | None

    @property
    def group(self) -> str:
        return f"{self.kind.name} on partition {self.partition.name}"

    def field(self, name: str) -> str:
        return f"slurm.{self.kind.name}.{name}"

    def row(self, what: str, found: str, plan: str = "", verdict: Verdict = "ok", change: str = "") -> Row:
        return Row(self.group, what, found, plan, verdict, change)


def rows(site: Site, settings: SlurmConfig, kind: Kind, host_bytes: float | None) -> Iterator[Row]:
    """All on the jobs of one kind."""
    where = settings.where(kind.name)
    partition = site.partition(where.partition)
    if partition is None:
        names = ", ".join(one.name for one in site.partitions)
        found = f"no partition {where.partition}" if where.partition else "no default partition"
        yield Row(
            f"{kind.name} jobs",
            "partition",
            f"{found}; there are: {names}",
            "",
            "refused",
            f"slurm.{kind.name}.partition={_another(site, '')}",
        )
        return
    job = Job(kind, settings.job(kind.name), settings, where, partition, host_bytes)
    yield _state(site, job)
    yield from _time(site, job)
    yield from _nodes(site, job)
    yield _memory(site, job)
    yield _preemption(site, job)


def longest(site: Site, where: Where) -> tuple[str, float]:
    """Seconds that a job may have at most, and what says so; infinite where nothing does."""
    partition = site.partition(where.partition)
    limits = {f"MaxTime of partition {partition.name}": partition.max_seconds} if partition else {}
    limits |= {f"MaxWall of {name}": quota.max_seconds for name, quota in site.quotas(where).items()}
    known = {name: seconds for name, seconds in limits.items() if seconds is not None}
    name = min(known, key=lambda one: known[one], default="")
    return name, known.get(name, math.inf)


def _another(site: Site, name: str, modes: tuple[str, ...] = ()) -> str:
    """A partition that is up, in place of the one of this name; `modes`: how it may not preempt."""
    up = [one for one in site.partitions if one.state == "UP" and one.name != name]
    good = [one.name for one in up if site.preemption(Where(partition=one.name)).mode not in modes]
    return next(iter(good), "")


def _state(site: Site, job: Job) -> Row:
    state = job.partition.state
    if state == "UP":
        return job.row("state", "UP")
    other = _another(site, job.partition.name)
    return job.row(
        "state",
        state,
        "its jobs would wait until the site opens it",
        "refused",
        job.field(f"partition={other}") if other else "wait until it is UP",
    )


def _time(site: Site, job: Job) -> Iterator[Row]:
    asked, signal = 60.0 * job.asked.minutes, job.settings.signal_seconds
    name, most = longest(site, job.where)
    found = f"{name} is {duration(most)}" if name else "no limit"
    plan = f"{job.field('minutes')}={job.asked.minutes}"
    if asked > most:
        waits = site.settings.get("EnforcePartLimits", "NO") == "NO"
        plan += ": the job would wait for ever" if waits else ": sbatch would refuse it"
        yield job.row("time", found, plan, "refused", job.field(f"minutes={int(most // 60)}"))
        asked = most
    else:
        yield job.row("time", found, plan)
    if signal >= asked:
        yield job.row(
            "warning",
            f"{signal} s before the end of {duration(asked)}",
            "a job would be told to stop as it starts",
            "refused",
            f"slurm.signal_seconds={max(1, int(asked / 4))}",
        )


def _nodes(site: Site, job: Job) -> Iterator[Row]:
    """Nodes that have what the job asks of each of its nodes; first what no node has."""
    nodes = site.nodes_of(job.partition.name, job.where.constraint)
    if not nodes:
        features = {name for node in site.nodes_of(job.partition.name) for name in node.features}
        yield job.row(
            "nodes",
            f"none has constraint {job.where.constraint}" if features else "none",
            "",
            "refused",
            job.field(f"constraint={min(features - {'', '(null)'}, default='null')}"),
        )
        return
    lacking = list(_lacking(job, nodes))
    yield from lacking
    able = [node for node in nodes if _fits(job, node)]
    if lacking:
        return
    wanted, most = job.asked.nodes, job.partition.max_nodes
    found, usable = f"{len(able)} of {len(nodes)} have what is asked", sum(node.usable for node in able)
    if most is not None:
        found += f", a job may have {most}"
    possible = min(len(able), len(able) if most is None else most)
    plan = f"{job.field('nodes')}={wanted}"
    if wanted > possible:
        change = job.field(f"nodes={possible}") if possible else job.field("partition=another")
        yield job.row("nodes", found, plan, "refused", change)
    elif wanted > usable:
        yield job.row(
            "nodes",
            f"{found}, {usable} of them neither down nor drained",
            plan,
            "warning",
            job.field(f"nodes={usable}") if usable else "wait until they are back",
        )
    else:
        yield job.row("nodes", found, plan)


def _asked_memory(job: Job) -> float:
    """MiB per node; 0: all there is, or nothing asked for."""
    return (parse_memory(job.asked.memory) or 0.0) if job.asked.memory else 0.0


def _fits(job: Job, node: Node) -> bool:
    return (
        node.cpus >= job.asked.tasks_per_node * job.asked.cpus_per_task
        and node.gpus >= job.asked.gpus_per_node
        and node.memory >= _asked_memory(job)
    )


def _lacking(job: Job, nodes: list[Node]) -> Iterator[Row]:
    tasks, cpus = job.asked.tasks_per_node, max(node.cpus for node in nodes)
    gpus, memory = max(node.gpus for node in nodes), max(node.memory for node in nodes)
    if tasks * job.asked.cpus_per_task > cpus:
        each = cpus // tasks
        yield job.row(
            "CPUs",
            f"a node has at most {cpus}",
            f"{tasks} tasks per node of {job.asked.cpus_per_task} CPUs",
            "refused",
            job.field(f"cpus_per_task={each}" if each else f"tasks_per_node={cpus}"),
        )
    if job.asked.gpus_per_node > gpus:
        change = job.field(f"gpus_per_node={gpus}")
        if job.kind.ranked and tasks > gpus > 0:
            change += f" {job.field(f'tasks_per_node={gpus}')}"
        plan = f"{job.field('gpus_per_node')}={job.asked.gpus_per_node}"
        yield job.row("GPUs", f"a node has at most {gpus}", plan, "refused", change)
    most = min(memory, job.partition.max_node_memory or memory)
    if _asked_memory(job) > most:
        plan = f"{job.field('memory')}={job.asked.memory}"
        found = f"a job gets at most {most} MiB of a node"
        yield job.row("memory of a node", found, plan, "refused", job.field(f"memory={most}M"))


def _memory(site: Site, job: Job) -> Row:
    """What a job gets, against the estimate."""
    counted = "MEMORY" in site.settings.get("SelectTypeParameters", "").upper()
    need = job.host_bytes
    estimate = f"estimated: {size(need)} per node" if need else "nothing is estimated"
    if not counted:
        return job.row("memory", "Slurm does not count memory here", estimate)
    if job.asked.memory:
        given: float | None = _asked_memory(job) or None
        found = f"{job.field('memory')}={job.asked.memory}"
    else:
        cpus = job.asked.tasks_per_node * job.asked.cpus_per_task
        per_cpu = job.partition.cpu_memory or site.number("DefMemPerCPU", 0)
        given = job.partition.node_memory or site.number("DefMemPerNode", 0) or cpus * per_cpu or None
        found = f"none asked for: {f'{given:g} MiB by default' if given else 'all of a node'}"
    if given is None or need is None or given * MIB >= need:
        return job.row("memory", found, estimate)
    change = job.field(f"memory={int(1.25 * need / MIB) + 1}M")
    return job.row("memory", found, estimate, "warning", change)


def _preemption(site: Site, job: Job) -> Row:
    given, signal = site.preemption(job.where), job.settings.signal_seconds
    lead = f"slurm.signal_seconds={signal} before the time limit"
    if given.mode == "OFF":
        return job.row("preemption", "its jobs are not preempted", lead)
    found = f"{given.mode}, {given.source}"
    if given.mode == "SUSPEND":
        return _suspended(site, job, found)
    if given.mode == "CANCEL":
        return _cancelled(site, job, found, given.grace_seconds)
    if given.grace_seconds == 0:
        kept = "a block" if not job.kind.ranked else "what was trained since the last checkpoint"
        wait = site.number("KillWait", 30)
        shorter = "warm_start.checkpoint_seconds=120 train.checkpoint_seconds=120"
        return job.row(
            "preemption",
            found,
            f"a job has KillWait={wait} s between its warning and its end: what can't be saved in that time, "
            f"{kept}, is lost; Slurm puts the job back into the queue",
            "warning",
            shorter
            if job.kind.ranked
            else "none where a block takes seconds; else a partition with a GraceTime",
        )
    if given.grace_seconds < signal:
        return job.row(
            "preemption",
            found,
            f"preempted jobs have {given.grace_seconds} s to save, {lead}; they go back into the queue",
        )
    return job.row("preemption", found, f"preempted jobs save and go back into the queue; {lead}")


def _suspended(site: Site, job: Job, found: str) -> Row:
    other = _another(site, job.partition.name, ("SUSPEND",))
    return job.row(
        "preemption",
        found,
        "no warning comes: a preempted job stands still and keeps its memory, on GPUs too; ranks and "
        "requests that stand still beyond their timeouts fail then, and training goes on from a checkpoint",
        "warning",
        job.field(f"partition={other}") if other else "none: every partition that is UP does so",
    )


def _cancelled(site: Site, job: Job, found: str, grace: int) -> Row:
    signal = job.settings.signal_seconds
    if grace >= signal:
        return job.row(
            "preemption",
            found,
            "a preempted job saves and puts itself back into the queue within its notice",
        )
    if grace >= 5:
        return job.row(
            "preemption",
            found,
            f"a job that can't stop puts itself back shortly before slurm.signal_seconds={signal} are over, "
            f"but is cancelled after {grace} s",
            "warning",
            f"slurm.signal_seconds={grace}",
        )
    wait = site.number("KillWait", 30)
    kept = "blocks" if job.kind.sharded else "its last checkpoint" if job.kind.ranked else "nothing"
    other = _another(site, job.partition.name, ("CANCEL",))
    return job.row(
        "preemption",
        found,
        f"a preempted job is cancelled after KillWait={wait} s; the chain submits it again, it keeps {kept}",
        "warning",
        job.field(f"partition={other}") if other else "none: every partition that is UP does so",
    )
