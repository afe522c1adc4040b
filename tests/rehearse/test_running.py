"""Which stage is stopped when, on a machine that plays the stages of a run."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import pytest

from lt_hpc.kinds import Kind
from lt_hpc.rehearse import ledger, running
from lt_hpc.rehearse.running import Disturbance
from lt_hpc.run import events, state
from lt_hpc.run.events import Ended, Launch, Started
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths
from tests.runs.finished import finished, planned


class Played:
    """A run whose stages start and end from one look to the next, with the outputs of one that is done. One
    that was told to stop starts once more."""

    beside = True

    def __init__(self, paths: RunPaths, plan: Plan, done: RunPaths, stoppable: bool) -> None:
        self.paths, self.plan, self.done, self.stoppable = paths, plan, done, stoppable
        self.starts, self.jobs = 0, 0
        self.current: Stage | None = None
        self.told: set[str] = set()

    def start(self) -> None:
        self.starts += 1
        events.record(self.paths, Launch(plan=self.plan.fingerprint))

    def working(self) -> bool:
        pending = state.pending(self.paths, self.plan)
        if self.current is not None:
            self._end(self.current)
        elif pending:
            self.current = pending[0]
            self.jobs += 1
            self._begin(self.current, 0)
        return bool(pending)

    def _begin(self, stage: Stage, restart: int) -> None:
        task, job = f"{stage.key}.0", str(self.jobs)
        events.record(self.paths, Started(task=task, pid=1, stage=stage.key, job=job, restart=restart))

    def _end(self, stage: Stage) -> None:
        job, told = str(self.jobs), str(self.jobs) in self.told
        if told:
            events.record(self.paths, Ended(stage=stage.key, code=75, job=job))
            self._begin(stage, 1)
        for folder in stage.outputs:
            shutil.copytree(self.done.root / folder, self.paths.root / folder)
        events.record(self.paths, Ended(stage=stage.key, code=0, job=job, restart=int(told)))
        self.current = None

    def can_stop(self, task: Started) -> bool:
        return self.stoppable

    def warn(self, tasks: Collection[Started]) -> None:
        self.told |= {task.job for task in tasks}

    take = warn

    def hurry(self, tasks: Collection[Started]) -> None:
        return

    def notice(self, kind: Kind) -> float:
        return 60.0

    def close(self) -> None:
        return


@pytest.fixture
def plan() -> Plan:
    return planned()


def disturbed(tmp_path: Path, plan: Plan, stoppable: bool) -> tuple[Played, list[str]]:
    """A run that was disturbed to its end, and what was said."""
    paths, said = RunPaths(tmp_path / "run"), list[str]()
    paths.root.mkdir()
    machine = Played(paths, plan, finished(tmp_path / "done", plan), stoppable)
    Disturbance(machine, plan, said.append).run()
    return machine, said


def test_what_ended_before_it_was_stopped_is_made_again_and_stopped_as_it_begins(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "POLL_SECONDS", 0)
    machine, said = disturbed(tmp_path, plan, stoppable=True)
    happened = events.read(machine.paths)
    assert set(ledger.preempted(plan, happened)) == {stage.key for stage in plan.stages}
    again = {line.partition(":")[0] for line in said if "made again" in line}
    # None of these was seen in the middle of its work; the others are stopped as they begin in any case.
    assert again == {"train-00", "evaluate-00", "sample-01", "train-01", "evaluate-01"}
    assert machine.starts == 2 and state.Look(machine.paths).complete(plan)
    assert any(line.startswith("merge-01: taken away as it begins") for line in said)


def test_what_can_not_be_stopped_is_tried_a_bounded_number_of_times(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "POLL_SECONDS", 0)
    machine, _ = disturbed(tmp_path, plan, stoppable=False)
    assert machine.starts == 1 + running.MADE_AGAIN and state.Look(machine.paths).complete(plan)
    assert ledger.preempted(plan, events.read(machine.paths)) == {}
