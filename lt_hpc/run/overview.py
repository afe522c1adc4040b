"""How far each stage of a run is, for people and for programs: what `lt-hpc status` says."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lt_hpc.errors import Interrupted
from lt_hpc.run import events, progress, state
from lt_hpc.run.events import Ended, Event, Lost
from lt_hpc.run.plan import Plan
from lt_hpc.run.state import Standing
from lt_hpc.store.paths import RunPaths

MOST_GONE = 3
"""Jobs that a line names."""


@dataclass(frozen=True)
class Shards:
    """Of a stage whose shards are pinned."""

    done: int
    running: int
    missing: int


@dataclass(frozen=True)
class Work:
    """What the tasks of a stage last said of themselves, earlier attempts included; `seconds_left` of those
    at work, None where it can't be told yet."""

    done: int
    total: int
    note: str
    seconds_left: float | None


@dataclass(frozen=True)
class Row:
    """One stage.

    Attributes:
        problem: why it is not done, or None.
        work: None where it is done, or nothing was said yet.
        jobs: state in the queue -> how many of its jobs and array tasks are in it.
        stops: how often jobs of it were preempted, out of time or lost.
        end: the last end of a job that failed or was stopped, where nothing of it has started since.
        gone: which of its last jobs were taken away or cancelled, in words, where none is in the queue.
    """

    stage: str
    iteration: int
    problem: str | None
    shards: Shards | None = None
    work: Work | None = None
    jobs: Mapping[str, int] = field(default_factory=dict)
    stops: int = 0
    end: Ended | None = None
    gone: Sequence[str] = ()

    @property
    def done(self) -> bool:
        return self.problem is None

    def __str__(self) -> str:
        line = f"{self.stage:12} {'done' if self.done else 'to do'}"
        if self.shards is not None:
            found = self.shards
            line += f"   shards: {found.done} done, {found.running} running, {found.missing} missing"
        if self.jobs:
            counts = (f"{count} {name.lower()}" for name, count in sorted(self.jobs.items()))
            line += f"   jobs: {', '.join(counts)}"
        if self.work is not None:
            line += f"   last seen at {self.work.done}/{self.work.total} {self.work.note}"
            left = self.work.seconds_left
            line += "" if left is None else f", {in_words(left)} left at this pace"
        if self.stops:
            line += f"   stopped and submitted again: {self.stops} times"
        if self.end is not None and not self.jobs and not self.done:
            stopped = self.end.code == Interrupted.exit_code
            line += f"   {'stopped' if stopped else 'FAILED'}: {events.described(self.end)}"
        if self.gone:
            more = len(self.gone) - MOST_GONE
            line += f"   gone: {', '.join(self.gone[:MOST_GONE])}{f' and {more} more' if more > 0 else ''}"
        return line


def rows(
    paths: RunPaths, plan: Plan, queued: Mapping[str, Counter[str]], happened: Sequence[Event]
) -> list[Row]:
    """Every stage of a plan, from one look at the manifests; `queued`: stage key -> states of its jobs,
    `happened`: all events of the run."""
    ends, stops = events.unfinished_ends(happened), stops_of(happened)
    files, now, look = progress.files(paths), time.time(), state.Look(paths)
    found = []
    for stage in plan.stages:
        jobs, standing = queued.get(stage.key, Counter()), look.standing(stage)
        tasks = progress.said(files.get(stage.key, ())) if standing.problem else []
        done, total, note = progress.of_stage(stage, tasks)
        left = progress.seconds_left(tasks, now)
        running = jobs["RUNNING"] if jobs else progress.num_running(tasks, now)
        row = Row(
            stage.key, stage.iteration, standing.problem, _shards(standing, running),
            Work(done, total, note, left) if total else None, jobs, stops[stage.key], ends.get(stage.key),
        )  # fmt: skip
        found.append(row)
    return found


def stops_of(happened: Sequence[Event]) -> Counter[str]:
    """Stage key -> how many jobs and array tasks of it were stopped before their end, or lost. Pure."""
    ended = {
        (one.stage, one.job, one.restart)
        for one in happened
        if isinstance(one, Ended) and one.job and one.code == Interrupted.exit_code
    }
    lost = {(one.stage, one.job, -1) for one in happened if isinstance(one, Lost)}
    known = {(stage, job) for stage, job, _ in ended}
    return Counter(stage for stage, job, n in ended | lost if n >= 0 or (stage, job) not in known)


def in_words(seconds: float) -> str:
    """A length of time, rounded for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _shards(standing: Standing, running: int) -> Shards | None:
    if standing.pinned is None:
        return None
    missing = len(standing.missing)
    running = min(missing, running)
    return Shards(standing.pinned - missing, running, missing - running)
