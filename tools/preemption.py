"""Tasks of a stage on a preemptible queue, simulated: what they keep, and what is lost. Seconds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

from lt_hpc.job import POLL_SECONDS, margin

MOST_STARTS = 1000
"""Of one task: one that needs more never ends."""


@dataclass(frozen=True)
class Work:
    """What a task does. `seconds`: of one unit (a block, a step); `load`: until it is at work; `notice`:
    before a preemption; `save_every`: from one save to the next, 0: after every unit; `save`: until one is
    complete, of which the work stands still for `blocked`, or for all of it before the task leaves; `leave`:
    until a task that was stopped has put its job back into the queue."""

    seconds: float
    load: float
    notice: float
    save_every: float = 0.0
    save: float = 0.0
    blocked: float = 0.0
    leave: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """One start of a task: its seconds, the units it has kept, and when it last saved, 0 for never."""

    seconds: float
    kept: int
    saved: float


@dataclass
class Outcome:
    """Of one stage: the attempts of each of its tasks, in order, and the seconds until all tasks have ended,
    infinite for never."""

    work: Work
    attempts: list[list[Attempt]]
    wall: float = 0.0

    @property
    def stops(self) -> int:
        return sum(max(0, len(of_task) - 1) for of_task in self.attempts)

    @property
    def busy(self) -> float:
        """Seconds at work, of all tasks together."""
        return sum(one.seconds for of_task in self.attempts for one in of_task)

    @property
    def lost(self) -> float:
        """Of these, as the report has it: since the last save before each stop, and loading after it, where
        the next start kept something, or what it has lost would be counted twice."""
        pairs = (pair for of_task in self.attempts for pair in itertools.pairwise(of_task))
        return sum(a.seconds - a.saved + (self.work.load if b.saved else 0.0) for a, b in pairs)


def attempt(work: Work, left: int, warned: float) -> Attempt:
    """A start with so many units left that is warned of its end after so many seconds. Pure."""
    seen = math.ceil(warned / POLL_SECONDS) * POLL_SECONDS if work.notice else warned
    end = seen + max(0.0, work.notice - margin(work.notice))
    now, kept, saved, last = work.load, 0, 0.0, work.load
    if work.save_every == 0 and warned <= now <= end:  # it looks before its first block
        return Attempt(now + work.leave, 0, 0.0)
    for unit in range(1, left + 1):
        now += work.seconds
        if now > end:
            break
        leaving = warned <= now or unit == left
        if leaving or now - last >= work.save_every:
            complete, last = now + work.save, now
            now += work.save if leaving else work.blocked
            if complete <= end:
                kept, saved = unit, complete
            if leaving:
                break
    return Attempt(min(now, end) + (work.leave if kept < left else 0.0), kept, saved)


def warning(seed: Sequence[int], task: int, start: int, every: float) -> float:
    """Seconds at work until a start of a task is warned: each has its own draw, whatever was drawn before, so
    that other settings, and a real queue that is given the same seed, meet the same preemptions."""
    return float(np.random.default_rng((*seed, task, start)).exponential(every))


def simulate(
    tasks: Sequence[int],
    work: Work,
    slots: int,
    every: float,
    requeue: float,
    seed: Sequence[int],
    delay: float = 0.0,
) -> Outcome:
    """A stage whose tasks have so many units each, `slots` of them at a time; `every`: mean seconds at work
    from one preemption of a job to the next, `delay`: from there to the warning, `requeue`: seconds in the
    queue after it."""
    environment, outcome = simpy.Environment(), Outcome(work, [[] for _ in tasks])
    machine = simpy.PriorityResource(environment, slots)

    def run(number: int, left: int) -> Generator[Any, Any, None]:
        made = outcome.attempts[number]
        while left and len(made) < MOST_STARTS:
            with machine.request(priority=number) as slot:
                yield slot
                warned = warning(seed, number, len(made), every) + delay
                made.append(attempt(work, left, warned))
                yield environment.timeout(made[-1].seconds)
            left -= made[-1].kept
            if left:
                yield environment.timeout(requeue)
        if left:
            outcome.wall = math.inf

    for number, units in enumerate(tasks):
        environment.process(run(number, units))
    environment.run()
    outcome.wall = max(outcome.wall, float(environment.now))
    return outcome


def dealt(units: int, tasks: int) -> list[int]:
    """Units of each of some tasks, as even as can be; none of a task that would have nothing to do."""
    count = min(units, tasks)
    return [units * (n + 1) // count - units * n // count for n in range(count)]
