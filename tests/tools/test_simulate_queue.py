"""The simulation of preemptions against what is known in closed form, and against the ledger of a run."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.errors import ConfigError, Interrupted
from lt_hpc.job import POLL_SECONDS
from lt_hpc.report import work as ledger
from lt_hpc.run import events
from lt_hpc.run.build import build_plan
from lt_hpc.run.events import Ended, Event, Started
from lt_hpc.run.plan import Plan
from lt_hpc.run.state import pin_plan
from lt_hpc.store import shards
from lt_hpc.store.paths import RunPaths
from lt_hpc.store.shards import ShardMap
from tools.preemption import Work, attempt, dealt, simulate, warning
from tools.simulate_queue import main

NEVER = 1e12


def make_plan(*overrides: str) -> Plan:
    sources = {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"}
    return build_plan(load_config(demo_file(), list(overrides)), 1, sources)


def test_nothing_is_lost_without_preemptions() -> None:
    found = simulate(dealt(100, 8), Work(10.0, 30.0, 0.0), 4, NEVER, 300.0, (0,))
    assert (found.stops, found.lost) == (0, 0.0)
    assert found.busy == 100 * 10 + 8 * 30
    assert found.wall == 2 * (13 * 10 + 30)


@given(st.integers(1, 300), st.integers(1, 300))
def test_every_unit_is_in_one_task(units: int, tasks: int) -> None:
    found = dealt(units, tasks)
    assert sum(found) == units and len(found) <= tasks and 1 <= min(found) <= max(found) <= min(found) + 1


@pytest.mark.parametrize(("load", "seconds", "every", "requeue"), [(0, 60, 50, 0), (20, 40, 60, 30)])
def test_one_unit_that_must_be_whole_takes_what_the_formula_says(
    load: float, seconds: float, every: float, requeue: float
) -> None:
    """Expected time of work w, failure rate l, restarts after R: (1/l + R)(exp(l w) - 1) (Daly 2006)."""
    work = Work(seconds, load, 0.0)
    walls = [simulate([1], work, 1, every, requeue, (1, n)).wall for n in range(4000)]
    expected = (every + requeue) * (math.exp((load + seconds) / every) - 1)
    assert statistics.fmean(walls) == pytest.approx(expected, rel=0.07)


@given(
    st.integers(1, 40), st.floats(0, 500), st.floats(0.1, 30), st.floats(0, 60),
    st.floats(0, 120), st.sampled_from([0.0, 5.0, 60.0]), st.floats(0, 10),
)  # fmt: skip
def test_an_attempt_keeps_what_it_has_saved_and_a_long_notice_loses_nothing(
    left: int, warned: float, seconds: float, load: float, notice: float, every: float, save: float
) -> None:
    work = Work(seconds, load, notice, every, save, save / 2)
    one = attempt(work, left, warned)
    longest = max(load, warned + notice + POLL_SECONDS) + 1e-9
    assert 0 <= one.kept <= left and 0 <= one.saved <= one.seconds <= longest
    assert (one.kept > 0) == (one.saved > 0)
    long = attempt(Work(seconds, load, 4 * (load + seconds + save + 30), every, save, save / 2), left, warned)
    assert long.seconds - long.saved < 1e-6 or long.kept == 0


def test_a_task_meets_the_same_preemptions_whatever_else_is_simulated() -> None:
    work = Work(10.0, 30.0, 8.0, leave=1.0)
    alone, beside = (simulate(tasks, work, 2, 100.0, 60.0, (5,)) for tasks in ([40], [40, 40, 40, 0]))
    assert alone.attempts[0] == beside.attempts[0] and alone.stops > 0
    assert beside.attempts[1] != beside.attempts[2]
    assert beside.stops == sum(len(of_task) - 1 for of_task in beside.attempts[:3])


def test_more_shards_cost_loading_and_longer_blocks_lose_more() -> None:
    def mean(tasks: int, block: int, figure: str) -> float:
        work = Work(block * 1.0, 60.0, 0.0)
        found = [simulate(dealt(6400 // block, tasks), work, 8, 1800.0, 60.0, (2, n)) for n in range(20)]
        return statistics.fmean(getattr(one, figure) for one in found)

    assert mean(64, 10, "busy") > mean(8, 10, "busy") + 50 * 60
    assert mean(8, 200, "lost") > 2 * mean(8, 10, "lost")


def happened(work: Work, units: int, every: float, requeue: float, seed: int) -> tuple[list[Event], float]:
    """Events as a job of training would record them, and what is simulated to be lost."""
    outcome = simulate([units], work, 1, every, requeue, (3, seed))
    found: list[Event] = []
    now, left = 1_700_000_000.0, units
    for restart, one in enumerate(outcome.attempts[0]):
        left -= one.kept
        where = {"stage": "train-01", "task": "train-01.0", "job": "7", "restart": restart}
        found.append(Started(time=at(now), pid=1, node="n1", **where))  # type: ignore[arg-type]
        code = Interrupted.exit_code if left else 0
        setup, saved = work.load if one.seconds > work.load else None, one.saved or None
        now += one.seconds
        found.append(
            Ended(time=at(now), code=code, setup=setup, saved=saved, units=one.kept, **where)  # type: ignore[arg-type]
        )
        now += requeue
    return found, outcome.lost


def at(second: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)) + "+0000"


@pytest.mark.parametrize("every", [200.0, 600.0, 3000.0])
def test_lost_work_is_what_the_ledger_of_a_run_calls_lost(every: float) -> None:
    plan = make_plan()
    work = Work(5.0, 40.0, 20.0, 120.0, 8.0, 2.0, 3.0)
    events_of, lost = happened(work, 1000, every, 60.0, int(every))
    (found,) = ledger.of_run(plan, events_of, on_gpu=False)
    assert found.lost_seconds == pytest.approx(lost, abs=2.0 * len(found.stops))  # times of whole seconds
    assert len(found.stops) > 0


def test_a_table_names_the_best_and_what_can_not_be_told_from_it(capsys: pytest.CaptureFixture[str]) -> None:
    sampling = (
        "--chunks 6400 --chunk-seconds 1 --load 60 --parallel 8 --num-shards 8 --block-chunks 10 11 400"
    )
    assert main(["--preempted-every", "0.5", *sampling.split(), "--seeds", "10"]) == 0
    said = capsys.readouterr().out
    best = next(line for line in said.splitlines() if line.startswith("shortest: "))
    assert "sample.block_chunks=400" not in best
    assert "not told from it by 10 seeds: sample.num_shards=8 sample.block_chunks=1" in said
    training = "--steps 100 --step-seconds 60 --checkpoint-cost 5 --checkpoint-blocked 1 --train-load 600"
    options = [*training.split(), "--train-nodes", "1", "--checkpoint-seconds", "99999"]
    assert main(["--preempted-every", "0.1", *options, "--seeds", "2"]) == 0
    assert "none of these ends" in capsys.readouterr().out


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--steps", "5"]) == ConfigError.exit_code
    said = capsys.readouterr().err
    assert "--step-seconds" in said and "--preempted-every" in said and "--chunks" not in said


def test_a_run_gives_its_figures_and_its_ledger_stands_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, plan = RunPaths(tmp_path), make_plan("sample.block_chunks=10", "sample.num_shards=4")
    pin_plan(paths, plan)
    stage = plan.stage("sample-01")
    shards.pin(tmp_path / stage.output, ShardMap(stage.fingerprint, 2000, 10, 4))
    work, now = Work(7.0, 30.0, 10.0, leave=2.0), 1_700_000_000.0
    for shard in range(4):
        left, restart = 50, 0
        while left:
            one = attempt(work, left, warning((9,), shard, restart, 120.0))
            left -= one.kept
            where = {"stage": "sample-01", "job": f"7_{shard}", "restart": restart, "node": "n1"}
            task = f"sample-01.{shard}"
            events.record(paths, Started(time=at(now), pid=1, task=task, **where))  # type: ignore[arg-type]
            now += one.seconds
            code, saved = 75 if left else 0, one.saved or None
            setup = 30.0 if one.seconds > 30 else None
            done = {
                "code": code,
                "setup": setup,
                "saved": saved,
                "units": one.kept,
                "left": 2.0 if code else None,
            }
            events.record(paths, Ended(time=at(now), task=task, **where, **done))  # type: ignore[arg-type]
            now, restart = now + 60, restart + 1
    assert main(["--run", str(tmp_path), "--notice", "10", "--block-chunks", "10", "40"]) == 0
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("sample-01: "))
    of_ledger, simulated = (
        float(part.split(" s per stop")[0].rpartition(" ")[2]) for part in line.split(";")
    )
    assert simulated == pytest.approx(of_ledger, rel=0.25)
    assert "sample.num_shards=4 sample.block_chunks=40" in said
