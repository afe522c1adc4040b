"""When the tasks of a run were at work, what that took, and what being stopped has cost. Pure.

From the events of jobs.jsonl. An attempt is one start of one task, or of one job with ranks. Lost, when an
attempt was stopped (preemption, time limit, a person) or died: its seconds since it last committed something,
all of them where nothing is committed on the way, and the seconds in which the next attempt of the stage was
loading again, unless it has lost these itself.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lt_hpc.errors import Interrupted
from lt_hpc.run.events import Crash, Ended, Event, Lost, Started
from lt_hpc.run.plan import Plan, Stage

Span = tuple[float, float]
"""From and to, seconds since the epoch."""


@dataclass(frozen=True)
class Attempt:
    """One start. Times in seconds since the epoch, None where they were not recorded; `code` None: nobody
    recorded its end; `setup`, `saved`, `units`, `left` as in `Ended`."""

    stage: str
    task: str
    start: float | None
    end: float | None = None
    code: int | None = None
    job: str = ""
    setup: float | None = None
    saved: float | None = None
    units: int | None = None
    left: float | None = None

    @property
    def seconds(self) -> float | None:
        """None where its start or its end is not known."""
        return None if self.start is None or self.end is None else max(0.0, self.end - self.start)

    @property
    def stopped(self) -> bool:
        """By a preemption, a time limit or a person, or killed: not by a failure of its own."""
        return self.code is not None and (self.code == Interrupted.exit_code or self.code < 0)


@dataclass(frozen=True)
class Device:
    """What one attempt of a stage holds: so many of `unit`, GPUs or CPU cores."""

    unit: str
    count: float


@dataclass(frozen=True)
class Work:
    """Of one stage.

    `spans`: when any task was at work, apart from each other, in order. `stops`: when attempts were stopped.
    `hours` of `unit`, and of these `lost_hours`; `lost_seconds` summed over the tasks. `idle_seconds`: in
    which no task was at work after one was stopped, such as in the queue. `unknown`: attempts whose start or
    end nobody recorded, which are in none of these; `unknown_losses`: stops whose loss nobody recorded, of
    which only the loading after them is counted.
    """

    stage: str
    unit: str
    attempts: int
    spans: list[Span]
    stops: list[float]
    failures: int
    hours: float
    lost_seconds: float
    lost_hours: float
    idle_seconds: float
    unknown: int
    unknown_losses: int


def of_run(plan: Plan, happened: Sequence[Event], on_gpu: bool) -> list[Work]:
    """Of every stage of a plan that was started. `on_gpu`: what is computed with."""
    found = attempts(happened)
    by_stage = {stage.key: [one for one in found if one.stage == stage.key] for stage in plan.stages}
    return [_of_stage(plan, plan.stage(key), own, on_gpu) for key, own in by_stage.items() if own]


def attempts(happened: Sequence[Event]) -> list[Attempt]:
    """Every attempt, in the order of their starts."""
    found: list[Attempt] = []
    at_work: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for one in happened:
        if isinstance(one, Started):
            at_work[_job(one)][_process(one)] = len(found)
            stage = one.stage or one.task.rpartition(".")[0]
            found.append(Attempt(stage, one.task, _seconds(one.time), job=one.job))
        elif isinstance(one, Ended):
            ended: dict[str, Any] = {"end": _seconds(one.time), "code": one.code}
            ended |= {"setup": one.setup, "saved": one.saved, "units": one.units, "left": one.left}
            place = at_work[_job(one)].pop(_process(one), None)
            if place is not None:
                found[place] = replace(found[place], **ended)
            elif not one.job or one.rank == 0:
                found.append(Attempt(one.stage, one.task, None, job=one.job, **ended))
        elif isinstance(one, Lost | Crash):
            # When it was taken away nobody has seen; of a crash it is known.
            end = _seconds(one.time) if isinstance(one, Crash) else None
            for place in at_work.pop((one.stage, one.job), {}).values():
                found[place] = replace(found[place], end=end, code=Interrupted.exit_code)
    return found


def _job(one: Started | Ended) -> tuple[str, str]:
    return (one.stage, one.job) if one.job else ("", "")


def _process(one: Started | Ended) -> str:
    return f"{one.restart}-{one.rank}" if one.job else one.task


def _seconds(time: str) -> float | None:
    try:
        return datetime.strptime(time, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:  # of a damaged line
        return None


def device(plan: Plan, stage: Stage, job: bool, on_gpu: bool) -> Device:
    """What each attempt of a stage holds, by the settings of the plan; `job`: of a scheduler, not a process
    of a launcher."""
    if not job:
        engines = 1 if stage.kind.ranked else plan.config.sample.devices_per_engine
        return Device("GPU", engines) if on_gpu else Device("core", plan.config.local.threads)
    asked = plan.config.slurm.job(stage.name)
    # Tasks that share shards speak for themselves, of ranks the first one does for all of them.
    share = 1 / (asked.nodes * asked.tasks_per_node) if stage.kind.sharded else 1.0
    if asked.gpus_per_node:
        return Device("GPU", asked.nodes * asked.gpus_per_node * share)
    return Device("core", asked.nodes * asked.tasks_per_node * asked.cpus_per_task * share)


def _of_stage(plan: Plan, stage: Stage, own: Sequence[Attempt], on_gpu: bool) -> Work:
    held = device(plan, stage, any(one.job for one in own), on_gpu)
    known = [one for one in own if one.seconds is not None]
    # Ranks lose the same together, and the first alone knows of checkpoints.
    speaking = [one for one in own if not stage.kind.ranked or one.job or one.task.endswith(".0")]
    losses = list(_losses(speaking, stage.kind.resumes))
    lost = sum(one for one in losses if one is not None) * len(own) / max(1, len(speaking))
    spans = union([(one.start, one.end) for one in known if one.start is not None and one.end is not None])
    stops = [one.end for one in own if one.stopped and one.end is not None]
    at_stops = set(stops)
    return Work(
        stage=stage.key,
        unit=held.unit,
        attempts=len(own),
        spans=spans,
        stops=sorted(stops),
        failures=sum(not one.stopped and bool(one.code) for one in own),
        hours=sum(one.seconds or 0.0 for one in known) * held.count / 3600,
        lost_seconds=lost,
        lost_hours=lost * held.count / 3600,
        idle_seconds=sum(
            after[0] - before[1] for before, after in itertools.pairwise(spans) if before[1] in at_stops
        ),
        unknown=len(own) - len(known),
        unknown_losses=sum(one is None for one in losses),
    )


def _losses(own: Sequence[Attempt], resumes: bool) -> Iterator[float | None]:
    """Seconds that each stop has cost, of work and of loading again; None: work of which nothing is known."""
    stopped = [one for one in own if one.stopped]
    for one in stopped:
        said = not resumes or any(value is not None for value in (one.saved, one.setup, one.units))
        if one.seconds is None or not said:
            yield None
        else:
            yield max(0.0, one.seconds - (one.saved or 0.0 if resumes else 0.0))
    # Each is followed by an attempt of its own, the first one after it that follows no other.
    later = iter(sorted((one for one in own if one.start is not None), key=lambda one: one.start or 0.0))
    for gone in sorted(map(_gone, stopped)):
        follower = next((one for one in later if one.start is not None and one.start >= gone), None)
        if follower is not None:
            lost_itself = follower.stopped and not (resumes and follower.saved)
            yield 0.0 if lost_itself else follower.setup or 0.0


def _gone(one: Attempt) -> float:
    """When it was over at the earliest: times are of whole seconds."""
    return one.end if one.end is not None else (one.start or 0.0) + 1


def union(spans: Sequence[Span]) -> list[Span]:
    """Spans that cover the same, apart from each other, in order."""
    found: list[Span] = []
    for low, high in sorted(spans):
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return found
