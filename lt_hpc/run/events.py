"""What happened to a run: the lines of jobs.jsonl, as typed records.

Written by the launcher and by jobs, never rewritten. A reader passes over lines that were cut off,
events it does not know and fields it does not know, so that releases can read each other's runs.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from lt_hpc.errors import Interrupted
from lt_hpc.store.atomic import append_line, read_lines
from lt_hpc.store.paths import RunPaths


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened; `time` is local time with its offset."""

    event: ClassVar[str]
    time: str = field(default_factory=_now)


@dataclass(frozen=True, kw_only=True)
class Launch(Event):
    """A person launched; this resets the count of repairs."""

    event: ClassVar[str] = "launch"
    plan: str = ""


@dataclass(frozen=True, kw_only=True)
class Submit(Event):
    """Jobs of a stage are about to be submitted. `shards` are those of each task of an array; `nodes`: of
    each job, 0 where an older release did not say."""

    event: ClassVar[str] = "submit"
    submission: str
    stage: str
    fingerprint: str
    plan: str
    shards: list[list[int]]
    scheduler: str = "slurm"
    nodes: int = 0


@dataclass(frozen=True, kw_only=True)
class Submitted(Event):
    """The scheduler took a submission and gave it these job ids."""

    event: ClassVar[str] = "submitted"
    submission: str
    jobs: list[str]


@dataclass(frozen=True, kw_only=True)
class Heal(Event):
    """A stage found `missing` shards of its input missing or corrupt and has them made again."""

    event: ClassVar[str] = "heal"
    stage: str
    fingerprint: str
    missing: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Claim(Event):
    """A job that runs the whole run inside its allocation, up to so many iterations."""

    event: ClassVar[str] = "allocation"
    run: str
    job: str
    iterations: int


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A launcher on this machine started a process for a task; or a task that a scheduler started (`stage`,
    `job`, `restart`, `node`, `rank`) is about to begin."""

    event: ClassVar[str] = "started"
    task: str
    pid: int
    stage: str = ""
    job: str = ""
    restart: int = 0
    node: str = ""
    rank: int = 0


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """A task ended. `job`, `restart`, `node`: where a scheduler ran it. `setup`, `saved`: seconds from its
    beginning until it was at work, and until it last committed something; `units`: blocks or steps that it
    had committed by then; `left`: seconds from where it had saved what it could, or had no time for it any
    more, to this record, in which it was put back into the queue."""

    event: ClassVar[str] = "ended"
    stage: str = ""
    task: str = ""
    code: int
    cause: str = ""
    job: str = ""
    restart: int = 0
    node: str = ""
    rank: int = 0
    setup: float | None = None
    saved: float | None = None
    units: int | None = None
    left: float | None = None


@dataclass(frozen=True, kw_only=True)
class Crash(Event):
    """The ranks of a training job were lost when its newest checkpoint was that of `step`."""

    event: ClassVar[str] = "crash"
    stage: str
    fingerprint: str
    step: int
    job: str
    restart: int
    cause: str


@dataclass(frozen=True, kw_only=True)
class Lost(Event):
    """The cluster took a job of a stage away, which is submitted again. `state`: in the scheduler's words;
    `again`: this may happen any number of times."""

    event: ClassVar[str] = "lost"
    stage: str
    fingerprint: str
    job: str
    state: str
    again: bool


@dataclass(frozen=True, kw_only=True)
class Excluded(Event):
    """Jobs of the run that have not started leave out a node on which its tasks fail or crawl; `evidence`: in
    words."""

    event: ClassVar[str] = "excluded"
    node: str
    evidence: str


E = TypeVar("E", bound=Event)
_EVENTS: dict[str, type[Event]] = {
    kind.event: kind
    for kind in (Launch, Submit, Submitted, Heal, Claim, Started, Ended, Crash, Lost, Excluded)
}


_PLAIN = {"str": str, "int": int, "bool": bool, "float | None": float, "int | None": int}
"""Types of fields that a damaged line may have otherwise."""
_FIELDS = {
    kind: {item.name: _PLAIN.get(str(item.type)) for item in dataclasses.fields(kind)}
    for kind in _EVENTS.values()
}


def record(paths: RunPaths, event: Event) -> None:
    """Append an event to the run's jobs.jsonl."""
    append_line(paths.jobs, {"event": event.event, **dataclasses.asdict(event)})


def read(paths: RunPaths) -> list[Event]:
    """All events of a run, oldest first."""
    return [event for line in read_lines(paths.jobs) if (event := _parsed(line)) is not None]


def of_kind(paths: RunPaths, kind: type[E]) -> list[E]:
    """The events of one kind, oldest first. Of many thousand tasks that have ended nothing is read."""
    lines = read_lines(paths.jobs, f'"{kind.event}"')
    return [event for line in lines if isinstance(event := _parsed(line), kind)]


def _parsed(line: dict[str, Any]) -> Event | None:
    kind = _EVENTS.get(str(line.get("event")))
    if kind is None:
        return None
    known = _FIELDS[kind]
    values: dict[str, Any] = {"time": ""}
    for name, value in line.items():
        if name in known and value is not None:
            plain = known[name]
            if plain is not None and type(value) is not plain:
                return None
            values[name] = value
    try:
        return kind(**values)
    except TypeError:  # a field is missing
        return None


def count_heals(events: Sequence[Event], fingerprint: str, missing: int) -> int:
    """Consecutive repairs for an output since the last launch that did not reduce its missing shards;
    `missing` is their current number."""
    count, before = 0, None
    for event in events:
        if isinstance(event, Launch):
            count, before = 0, None
        elif isinstance(event, Heal) and event.fingerprint == fingerprint:
            count = 1 if before is None or event.missing < before else count + 1
            before = event.missing
    return 0 if before is not None and missing < before else count


def count_losses(happened: Sequence[Event], fingerprint: str) -> int:
    """How often since the last launch jobs of a stage were lost, other than by preemption. Pure."""
    count = 0
    for event in happened:
        if isinstance(event, Launch):
            count = 0
        elif isinstance(event, Lost) and event.fingerprint == fingerprint and not event.again:
            count += 1
    return count


def count_crashes(happened: Sequence[Event], fingerprint: str) -> int:
    """Consecutive crashes of a stage since the last launch with no newer checkpoint between them. Pure."""
    count, step = 0, -1
    for event in happened:
        if isinstance(event, Launch):
            count, step = 0, -1
        elif isinstance(event, Crash) and event.fingerprint == fingerprint:
            count = count + 1 if event.step == step else 1
            step = event.step
    return count


def ever_queued(happened: Sequence[Event]) -> bool:
    """Whether any job of a queue has ever worked on the run, beside processes of launches. Pure."""
    return any(
        isinstance(one, Claim) or (isinstance(one, Submit) and one.scheduler == Submit.scheduler)
        for one in happened
    )


def unfinished_ends(happened: Sequence[Event]) -> dict[str, Ended]:
    """Stage key -> the last end of a job of it that failed or was stopped, where it was not submitted again,
    nor went back into the queue after a crash. Pure."""
    found: dict[str, Ended] = {}
    for one in happened:
        if isinstance(one, Submit | Crash):
            found.pop(one.stage, None)
        elif isinstance(one, Ended) and one.code != 0:
            found[one.stage] = one
    return found


def failures(happened: Sequence[Event]) -> dict[str, Ended]:
    """Of `unfinished_ends`, those that failed. Pure."""
    ends = unfinished_ends(happened)
    return {stage: end for stage, end in ends.items() if end.code != Interrupted.exit_code}


def excluded(happened: Sequence[Event]) -> list[Excluded]:
    """Of each node that jobs were told to leave out, when and why, as it was last said. Pure."""
    return list({one.node: one for one in happened if isinstance(one, Excluded)}.values())


def described(end: Ended) -> str:
    """When, where and why a job or task ended, in words. Pure."""
    place = f"job {end.job} on {end.node}" if end.job else end.task
    cause = f": {end.cause}" if end.cause else ""
    return f"{end.time}, {place}, exit code {end.code}{cause}"
