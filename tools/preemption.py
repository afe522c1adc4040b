"""Tasks of a stage on a preemptible queue, simulated: what they keep, and what is lost. Seconds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

from lt_hpc.job import margin

MOST_STARTS = 1000
"""Of one task: one that needs more never ends."""


@dataclass(frozen=True)
class Work:
    """What a task does. `seconds`: of one unit (a block, a step); `load`: until it is at work; `notice`:
    before a preemption; `save_every`: from one save to the next, 0: after every unit; `save`: until one is
    complete, of which the work stands still for `blocked`, or for all of it before the task leaves."""

    seconds: float
    load: float
    notice: float
    save_every: float = 0.0
    save: float = 0.0
    blocked: float = 0.0


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
        return sum(len(of_task) - 1 for of_task in self.attempts)

    @property
    def busy(self) -> float:
        """Seconds at work, of all tasks together."""
        return sum(one.seconds for of_task in self.attempts for one in of_task)

    @property
    def lost(self) -> float:
        """Of these, as the report has it: since the last save before each stop, and loading after it."""
        pairs = (pair for of_task in self.attempts for pair in itertools.pairwise(of_task))
        return sum(a.seconds - a.saved + min(self.work.load, b.seconds) for a, b in pairs)


def attempt(work: Work, left: int, warned: float) -> Attempt:
    """A start with so many units left that is warned of its end after so many seconds. Pure."""
    end = warned + max(0.0, work.notice - margin(work.notice))
    now, kept, saved, last = work.load, 0, 0.0, work.load
    if work.save_every == 0 and warned <= now <= end:  # it looks before its first block
        return Attempt(now, 0, 0.0)
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
    return Attempt(min(now, end), kept, saved)


def simulate(
    tasks: Sequence[int], work: Work, slots: int, every: float, requeue: float, seed: Sequence[int]
) -> Outcome:
    """A stage whose tasks have so many units each, `slots` of them at a time; `every`: mean seconds at work
    from one preemption of a job to the next, `requeue`: seconds in the queue after it."""
    environment, outcome = simpy.Environment(), Outcome(work, [[] for _ in tasks])
    machine = simpy.PriorityResource(environment, slots)
    draws = np.random.default_rng(seed)

    def run(number: int, left: int) -> Generator[Any, Any, None]:
        made = outcome.attempts[number]
        while left and len(made) < MOST_STARTS:
            with machine.request(priority=number) as slot:
                yield slot
                made.append(attempt(work, left, float(draws.exponential(every))))
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
