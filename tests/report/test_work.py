"""Hours and losses of jobs, from events as a run records them."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.report.columns import work_in_words, work_lines
from lt_hpc.report.work import Work, of_run, union
from lt_hpc.run.build import build_plan
from lt_hpc.run.events import Crash, Ended, Event, Lost, Started
from tests.report.pages import SOURCES

GPUS = ["slurm.sample.gpus_per_node=1", "slurm.train.gpus_per_node=8", "slurm.train.nodes=2"]


def at(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(1_700_000_000 + second)) + "+0000"


def started(second: int, stage: str = "train-01", task: int = 0, job: str = "7", restart: int = 0) -> Started:
    return Started(
        time=at(second), task=f"{stage}.{task}", pid=1, stage=stage, job=job, restart=restart, rank=task
    )


def ended(second: int, code: int, stage: str = "train-01", task: int = 0, **more: Any) -> Ended:
    given_job = {"job": "7", **more}
    return Ended(time=at(second), stage=stage, task=f"{stage}.{task}", code=code, rank=task, **given_job)


def work(*happened: Event, overrides: list[str] | None = None, on_gpu: bool = True) -> Work:
    plan = build_plan(load_config(demo_file(), GPUS if overrides is None else overrides), 1, SOURCES)
    (found,) = of_run(plan, happened, on_gpu)
    return found


def test_a_job_that_was_never_stopped_has_lost_nothing() -> None:
    found = work(started(0), ended(900, 0, setup=60.0, saved=890.0))
    assert (found.unit, found.hours) == ("GPU", 16 / 4)
    assert (found.attempts, found.stops, found.lost_seconds, found.idle_seconds, found.unknown) == (
        1,
        [],
        0,
        0,
        0,
    )


def test_a_preemption_costs_what_was_not_saved_loading_again_and_a_wait_without_gpus() -> None:
    found = work(
        started(0),
        ended(1000, 75, setup=60.0, saved=880.0),
        started(4600, restart=1),
        ended(5600, 0, setup=90.0, saved=990.0, restart=1),
    )
    assert found.lost_seconds == 120 + 90
    assert found.lost_hours == pytest.approx(16 * 210 / 3600)
    assert found.hours == pytest.approx(16 * 2000 / 3600), "none while it waits"
    assert (found.idle_seconds, len(found.stops)) == (3600, 1)
    said = work_in_words([found])
    assert "8.89 GPU hours, of which 0.933 (10.5%) were lost to stops" in said
    assert "2 attempts, 1 of them stopped; 3600 s nobody was at work" in said


def test_a_stop_while_loading_costs_all_of_its_seconds_and_no_loading_is_counted_twice() -> None:
    found = work(
        started(0),
        ended(100, 75, setup=40.0, saved=90.0, units=5),
        started(200, restart=1),
        ended(230, 75, units=0, restart=1),  # it was still loading
        started(300, restart=2),
        ended(350, 75, setup=45.0, units=0, restart=2),
        started(400, restart=3),
        ended(900, 0, setup=50.0, saved=499.0, units=9, restart=3),
    )
    assert found.lost_seconds == 10 + 30 + 50 + 50
    assert (len(found.stops), found.unknown_losses) == (3, 0)


def test_a_stage_that_keeps_nothing_on_the_way_loses_all_of_a_stopped_attempt() -> None:
    found = work(started(0, "merge-01"), ended(50, 75, "merge-01", setup=1.0, saved=49.0))
    assert found.lost_seconds == 50


def test_tasks_that_share_a_job_hold_a_part_of_it_each() -> None:
    shares = ["slurm.sample.gpus_per_node=4", "slurm.sample.tasks_per_node=4"]
    happened = [started(0, "sample-01", task) for task in range(4)]
    happened += [ended(3600, 0, "sample-01", task) for task in range(4)]  # type: ignore[misc]
    found = work(*happened, overrides=shares)
    assert (found.hours, found.attempts, len(found.spans)) == (4, 4, 1)


def test_without_gpus_hours_are_of_cores_and_named_so() -> None:
    happened = started(0, job=""), ended(7200, 0, job="")
    found = work(*happened, overrides=["local.threads=3"], on_gpu=False)
    assert (found.unit, found.hours) == ("core", 6)
    assert "6 core hours" in next(work_lines([found]))
    assert work(*happened, overrides=[]).unit == "GPU"


def test_a_local_task_that_was_killed_without_a_word_is_counted_apart() -> None:
    """Its launcher died with it: nobody knows when."""
    found = work(started(0, job=""), started(500, job=""), ended(600, 0, job=""))
    assert (found.attempts, found.unknown, found.hours) == (2, 1, pytest.approx(100 / 3600))


def test_the_first_rank_on_one_machine_speaks_for_all() -> None:
    """The others are not told when a checkpoint is whole."""
    happened = [started(0, task=rank, job="") for rank in range(2)]
    happened += [ended(100, 75, task=0, job="", setup=5.0, saved=90.0)]  # type: ignore[list-item]
    happened += [ended(100, 75, task=1, job="", setup=5.0)]  # type: ignore[list-item]
    happened += [started(100, task=rank, job="") for rank in range(2)]
    happened += [ended(150, 0, task=rank, job="", setup=6.0) for rank in range(2)]  # type: ignore[misc]
    found = work(*happened, overrides=[], on_gpu=False)
    assert (found.attempts, found.lost_seconds) == (4, 2 * (10 + 6))


def test_jobs_of_an_earlier_release_have_no_starts_and_their_losses_are_unknown() -> None:
    found = work(ended(100, 75), ended(200, 0))
    assert (found.attempts, found.unknown, found.unknown_losses, found.hours) == (2, 2, 1, 0)
    assert "Of 1 stops nobody recorded what they cost." in work_in_words([found])


def test_ranks_that_were_lost_end_their_job_and_a_job_that_was_taken_away_is_stopped() -> None:
    crash = Crash(time=at(300), stage="train-01", fingerprint="f", step=3, job="7", restart=0, cause="NCCL")
    found = work(started(0), crash, started(400, restart=1), ended(500, 0, restart=1, setup=20.0))
    assert (len(found.stops), found.unknown_losses, found.lost_seconds) == (1, 1, 20)
    lost = Lost(time=at(300), stage="train-01", fingerprint="f", job="7", state="NODE_FAIL", again=False)
    found = work(started(0), lost, started(400, job="8"), ended(500, 0, job="8", setup=20.0))
    assert (found.unknown, found.lost_seconds, found.failures) == (1, 20, 0)


def test_ten_thousand_shards_half_of_which_were_preempted() -> None:
    happened: list[Event] = []
    for shard in range(10_000):
        job = f"9_{shard}"
        happened.append(started(0, "sample-01", job=job))
        code, saved = (75, 50.0) if shard % 2 else (0, 60.0)
        happened.append(ended(60, code, "sample-01", job=job, setup=5.0, saved=saved))
        if code:
            happened.append(started(100, "sample-01", job=job, restart=1))
            happened.append(ended(200, 0, "sample-01", job=job, setup=7.0, saved=99.0, restart=1))
    found = work(*happened)
    assert (found.attempts, len(found.stops), len(found.spans)) == (15_000, 5_000, 2)
    assert (found.lost_seconds, found.idle_seconds) == (5_000 * (10 + 7), 40)


def test_a_failure_is_no_stop() -> None:
    found = work(
        started(0), ended(100, 4, saved=10.0), started(300, job="8"), ended(400, 0, job="8", setup=9.0)
    )
    assert (found.failures, found.stops, found.lost_seconds, found.idle_seconds) == (1, [], 0, 0)


def test_a_time_that_can_not_be_read_is_unknown() -> None:
    broken = Ended(time="yesterday", stage="train-01", task="train-01.0", code=0, job="7")
    assert work(started(0), broken).unknown == 1


SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)).map(lambda one: (one[0], one[0] + one[1])))


@given(SPANS)
def test_a_union_covers_the_same_in_order_and_apart(spans: list[tuple[int, int]]) -> None:
    found = union(spans)

    def covered(of: list[tuple[float, float]]) -> set[int]:
        return {tenth for low, high in of for tenth in range(10 * int(low), 10 * int(high) + 1)}

    assert covered(found) == covered(list(spans))
    assert all(before[1] < after[0] for before, after in itertools.pairwise(found))
