"""What jobs.jsonl says of preemptions: a stage was preempted when it was at work, was stopped, and came back.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lt_hpc.report import work
from lt_hpc.report.work import Attempt
from lt_hpc.run.events import Crash, Ended, Event, Launch, Lost, Started
from lt_hpc.run.plan import Plan


@dataclass(frozen=True)
class Preempted:
    """Of one stage.

    Attributes:
        stops: attempts of its tasks that were stopped and came back.
        back_seconds: from the end of one to the start of the next, the longest; None: no end was recorded.
        lost_seconds: as the report has it, summed over the tasks; `at_least`: of some stop nothing is known.
        finished: what was stopped had done its work before the notice was over, and was started again all the
            same.
        causes: what the tasks said when they were stopped.
    """

    stops: int
    back_seconds: float | None
    lost_seconds: float
    at_least: bool
    finished: bool
    causes: tuple[str, ...]


def of_plan(happened: Sequence[Event], plan: str) -> list[Event]:
    """The events since a plan was launched, other plans in between left out with what came before them."""
    found: list[Event] = []
    current = False
    for one in happened:
        if isinstance(one, Launch):
            found, current = (found if one.plan == plan else []), one.plan == plan
        if current:
            found.append(one)
    return found


def at_work(happened: Sequence[Event], stage: str) -> list[Started]:
    """The tasks of a stage that have started and not ended, as far as was recorded."""
    found: dict[tuple[str, ...], Started] = {}
    for one in happened:
        if isinstance(one, Started) and _stage(one) == stage:
            if one.job:  # whatever was of an earlier start of this job is gone
                found = {k: v for k, v in found.items() if v.job != one.job or v.restart == one.restart}
            found[_process(one)] = one
        elif isinstance(one, Ended) and one.stage == stage:
            found.pop(_process(one), None)
        elif isinstance(one, Lost | Crash) and one.stage == stage:
            found = {key: value for key, value in found.items() if value.job != one.job}
    return list(found.values())


def preempted(plan: Plan, happened: Sequence[Event]) -> dict[str, Preempted]:
    """Key of each stage that was -> how."""
    every = work.attempts(happened)
    losses = {one.stage: one for one in work.of_run(plan, happened, on_gpu=False)}
    found: dict[str, Preempted] = {}
    for stage in plan.stages:
        pairs = _pairs([one for one in every if one.stage == stage.key])
        if not pairs:
            continue
        waits = [b.start - a.end for a, b in pairs if a.end is not None and b.start is not None]
        loss = losses[stage.key]
        causes = (one.cause for one in happened if isinstance(one, Ended) and one.stage == stage.key)
        found[stage.key] = Preempted(
            stops=len(pairs),
            back_seconds=max(0.0, *waits) if waits else None,
            lost_seconds=loss.lost_seconds,
            at_least=loss.unknown_losses > 0 or loss.unknown > 0,
            finished=all(one.code == 0 for one, _ in pairs),
            causes=tuple(dict.fromkeys(filter(None, causes))),
        )
    return found


def _pairs(own: Sequence[Attempt]) -> list[tuple[Attempt, Attempt]]:
    """Attempts that were stopped, each with the next one of the same task. A scheduler starts a job again
    only where it has taken it away, whatever the attempt said of its end; on one machine an attempt without
    an end was killed."""
    found = []
    for number, one in enumerate(own):
        later = next((b for b in own[number + 1 :] if (b.job, b.task) == (one.job, one.task)), None)
        taken = one.stopped or one.code is None or (one.job and one.code == 0)
        if later is not None and taken and one.start is not None:
            found.append((one, later))
    return found


def _stage(one: Started) -> str:
    return one.stage or one.task.rpartition(".")[0]


def _process(one: Started | Ended) -> tuple[str, ...]:
    return (one.job, str(one.restart), str(one.rank)) if one.job else (one.task,)
