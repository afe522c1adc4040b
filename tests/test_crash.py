"""What follows when the ranks of a training job are lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lt_hpc import crash
from lt_hpc.cluster import reconcile
from lt_hpc.errors import ConfigError, HardwareError, Interrupted
from lt_hpc.run import events, state
from lt_hpc.run.events import Crash, Ended, Launch
from lt_hpc.store.paths import RunPaths
from tests.cluster.memory_queue import Cluster, make_plan


@dataclass
class Requeueing(Cluster):
    """A queue that takes running jobs back."""

    requeued: list[str] = field(default_factory=list)

    def requeue(self, job: str) -> bool:
        self.requeued.append(job)
        return True


@dataclass
class Chain:
    """A submitted chain whose training runs."""

    paths: RunPaths
    queue: Requeueing = field(default_factory=Requeueing)

    def __post_init__(self) -> None:
        self.plan = make_plan()
        state.pin_plan(self.paths, self.plan)
        events.record(self.paths, Launch(plan=self.plan.fingerprint))
        reconcile.reconcile(self.plan, self.paths, self.queue)
        self.training = next(job for job, key in self.queue.stages.items() if key == "train-00")
        self.stage, self.restart = self.plan.stage("train-00"), 0

    def end(self, code: int, rank: int = 0, cause: str = "why") -> None:
        ended = Ended(
            stage=self.stage.key, code=code, cause=cause, job=self.training, restart=self.restart, rank=rank
        )
        events.record(self.paths, ended)

    def after(self, code: int) -> str:
        said = crash.after(self.plan, self.stage, self.paths, self.queue, self.training, self.restart, code)
        self.restart += 1
        return said

    def waiting(self) -> set[str]:
        return {self.queue.stages[queued.job] for queued in self.queue.jobs_in_queue}


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(RunPaths(tmp_path))


def test_ranks_that_die_without_a_word_are_started_again_twice(chain: Chain) -> None:
    for _ in range(2):
        assert "goes on from step 0" in chain.after(134)
    assert chain.queue.requeued == [chain.training] * 2
    assert "evaluate-00" in chain.waiting()
    assert events.failures(events.read(chain.paths)) == {}
    said = chain.after(134)
    assert "given up after 3 crashes with no checkpoint after step 0" in said
    assert chain.queue.requeued == [chain.training] * 2
    assert "evaluate-00" not in chain.waiting() and "cancelled what waits for it" in said
    assert "exit code 134" in events.failures(events.read(chain.paths))["train-00"].cause


def test_a_lost_network_is_no_fault_of_the_ranks_that_say_so(chain: Chain) -> None:
    chain.end(HardwareError.exit_code, cause="Connection closed by peer")
    assert "Connection closed by peer" in chain.after(137)
    assert chain.queue.requeued == [chain.training]


def test_where_one_rank_said_why_nobody_starts_again(chain: Chain) -> None:
    chain.end(HardwareError.exit_code)
    chain.end(ConfigError.exit_code, rank=1, cause="train.dtype")
    assert "failed (train.dtype)" in chain.after(137)
    assert chain.queue.requeued == [] and "evaluate-00" not in chain.waiting()


def test_a_job_that_was_stopped_has_asked_for_its_requeue_itself(chain: Chain) -> None:
    chain.end(Interrupted.exit_code)
    chain.after(143)
    assert chain.queue.requeued == [] and "evaluate-00" in chain.waiting()


def test_checkpoints_and_launches_begin_the_count_anew() -> None:
    def at(step: int) -> Crash:
        return Crash(stage="train-01", fingerprint="f", step=step, job="1", restart=0, cause="c")

    assert events.count_crashes([at(2), at(2), at(4)], "f") == 1
    assert events.count_crashes([at(2), at(2), at(2)], "f") == 3
    assert events.count_crashes([at(2), at(2), Launch(), at(2)], "f") == 1
    assert events.count_crashes([at(2), at(2)], "of other settings") == 0
