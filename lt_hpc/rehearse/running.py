"""A run whose every stage is preempted once, in the middle of its work where that is long enough."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from lt_hpc.rehearse import ledger
from lt_hpc.rehearse.machines import Machine
from lt_hpc.run import events, progress, state
from lt_hpc.run.events import Event, Started
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths

POLL_SECONDS = 0.1
MADE_AGAIN = 2
"""How often a stage that ended before it was stopped is made again, to be stopped as it begins."""


@dataclass
class _Stopped:
    """Tasks that were told to leave, and when those that have not are taken away."""

    tasks: list[Started]
    deadline: float | None


@dataclass
class Disturbance:
    """Of one run. `say` is told what is done to it."""

    machine: Machine
    plan: Plan
    say: Callable[[str], None]
    again: Counter[str] = field(default_factory=Counter)
    stopped: dict[str, _Stopped] = field(default_factory=dict)

    def run(self) -> None:
        """Have the run come to its end, each stage preempted once. One that was not is made again; after some
        times it stays what it is.

        Raises:
            StageError: when the run fails.
        """
        while True:
            left = self._left(self._happened())
            if state.Look(self.machine.paths).complete(self.plan):
                left = [stage for stage in left if self.again[stage.key] < MADE_AGAIN]
                if not left:
                    return
                for stage in left:
                    self.again[stage.key] += 1
                    self.stopped.pop(stage.key, None)
                    self.say(
                        f"{stage.key}: ended before it was stopped; made again, to be stopped as it begins"
                    )
                remove(self.machine.paths, self.plan, [stage.key for stage in left])
            self.machine.start()
            while self.machine.working():
                self._look()
                time.sleep(POLL_SECONDS)

    def _happened(self) -> list[Event]:
        return ledger.of_plan(events.read(self.machine.paths), self.plan.fingerprint)

    def _left(self, happened: Sequence[Event]) -> list[Stage]:
        """Stages that were not preempted yet."""
        found = ledger.preempted(self.plan, happened)
        return [stage for stage in self.plan.stages if stage.key not in found]

    def _look(self) -> None:
        """Stop what can be stopped now."""
        happened = self._happened()
        for stage in self._left(happened):
            tasks = ledger.at_work(happened, stage.key)
            before = self.stopped.get(stage.key)
            if before is not None:
                self.machine.hurry(before.tasks)
            if before is None and tasks and self._ripe(stage, tasks):
                self._stop(stage, tasks)
            elif before is not None and before.deadline is not None and time.monotonic() > before.deadline:
                before.deadline = None
                late = [one for one in before.tasks if one in tasks]
                if late:
                    self.say(f"{stage.key}: has not left within its notice; taken away")
                    self.machine.take(late)

    def _ripe(self, stage: Stage, tasks: Collection[Started]) -> bool:
        """Whether it is at the moment to be stopped: in the middle, or as it begins, for one that is short or
        keeps nothing on its way."""
        if not all(map(self.machine.can_stop, tasks)):
            return False
        return not _in_the_middle(stage) or self.again[stage.key] > 0 or _under_way(self.machine.paths, stage)

    def _stop(self, stage: Stage, tasks: list[Started]) -> None:
        said = progress.of_tasks(self.machine.paths, stage)
        done, total, _ = progress.of_stage(stage, said)
        where = ", ".join(sorted({one.job or one.task for one in tasks}))
        seen = f"at {done}/{total} {said[0].unit}" if total else "as it begins"
        if stage.kind.resumes:
            self.say(f"{stage.key}: told to save and leave {seen} ({where})")
            deadline = time.monotonic() + self.machine.notice(stage.kind)
            self.stopped[stage.key] = _Stopped(tasks, deadline)
            self.machine.warn(tasks)
        else:  # a warning would find it at its end
            self.say(f"{stage.key}: taken away {seen} ({where})")
            self.stopped[stage.key] = _Stopped(tasks, None)
            self.machine.take(tasks)


def _in_the_middle(stage: Stage) -> bool:
    """Whether it commits piece by piece, over a time in which it can be stopped."""
    return stage.kind.resumes and (stage.kind.ranked or stage.kind.blocks is not None)


def _under_way(paths: RunPaths, stage: Stage) -> bool:
    """Whether a task has done some of its work and has some left."""
    said = progress.of_tasks(paths, stage)
    return any(one.first < one.done < one.total for one in (said[:1] if stage.kind.ranked else said))


def remove(paths: RunPaths, plan: Plan, keys: Collection[str]) -> None:
    """What some stages made, and what was made from that. Nothing works on the run."""
    gone = set(keys)
    for stage in plan.stages:  # what a stage needs stands before it
        if stage.key in gone or gone & set(stage.needs):
            gone.add(stage.key)
            progress.clear(paths, stage)
            for folder in stage.outputs:
                shutil.rmtree(paths.root / folder, ignore_errors=True)
