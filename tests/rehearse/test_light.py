"""When a rehearsal is green, and what it says where it is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from lt_hpc.rehearse import ledger, rows
from lt_hpc.rehearse.compare import compare
from lt_hpc.rehearse.rows import EXIT_CODES, Rehearsal
from lt_hpc.rehearse.running import remove
from lt_hpc.run import state
from lt_hpc.run.events import Ended, Event, Launch, Started
from lt_hpc.run.plan import Plan
from lt_hpc.store import manifest
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import RunPaths
from tests.runs.finished import finished, planned


def at(second: int) -> str:
    return f"2026-01-01T00:{second // 60:02}:{second % 60:02}+0000"


def attempt(
    stage: str, start: int, end: int | None, code: int = 0, job: str = "1", restart: int = 0
) -> list[Event]:
    """One start of a job, and its end where one was recorded."""
    begun = Started(time=at(start), task=f"{stage}.0", pid=1, stage=stage, job=job, restart=restart)
    if end is None:
        return [begun]
    return [
        begun,
        Ended(time=at(end), stage=stage, code=code, job=job, restart=restart, setup=2.0, saved=3.0),
    ]


def stopped(stage: str) -> list[Event]:
    return [*attempt(stage, 0, 5, 75), *attempt(stage, 12, 20, restart=1)]


@pytest.fixture
def plan() -> Plan:
    return planned()


@pytest.fixture
def runs(tmp_path: Path, plan: Plan) -> tuple[RunPaths, RunPaths]:
    """Both runs, done alike."""
    return finished(tmp_path / "undisturbed", plan), finished(tmp_path / "preempted", plan)


def judged(
    plan: Plan, runs: tuple[RunPaths, RunPaths], without: Sequence[str] = (), may_differ: str = ""
) -> Rehearsal:
    """With every stage preempted but for those `without`."""
    happened = [one for stage in plan.stages if stage.key not in without for one in stopped(stage.key)]
    said = {stage.key: [] for stage in plan.stages}
    found = rows.rows(plan, ledger.preempted(plan, happened), said, compare(plan, *runs))
    return Rehearsal("out", "slurm", [], [], found, may_differ, 0, 1.0)


def test_green_where_every_stage_came_back_to_the_same_bytes(
    plan: Plan, runs: tuple[RunPaths, RunPaths]
) -> None:
    found = judged(plan, runs)
    assert (found.light, EXIT_CODES[found.light]) == ("green", 0)
    *table, light = rows.text(found)
    assert light.startswith("green: 7 of 7 stages")
    assert [line.split()[0] for line in table[1:]] == [stage.key for stage in plan.stages]
    (train,) = [line for line in table if line.startswith("train-01")]
    assert train.split() == ["train-01", "nothing", "7", "s", "4.0", "s", "same", "(1", "files)"]


def test_yellow_where_one_was_not_stopped_and_it_is_named(
    plan: Plan, runs: tuple[RunPaths, RunPaths]
) -> None:
    found = judged(plan, runs, without=["merge-01"])
    assert (found.light, EXIT_CODES[found.light]) == ("yellow", 1)
    assert "merge-01: was not preempted" in "\n".join(rows.text(found))


def rewrite(folder: Path, content: bytes, counts: dict[str, int] | None = None) -> None:
    """Another file in a folder that is done, with a manifest that fits."""
    record = manifest.read(folder)
    assert record is not None
    (folder / "result").write_bytes(content)
    entry = manifest.describe(folder / "result")
    manifest.write(folder, dataclasses.replace(record, files=(entry,), counts=counts or {}))


def test_a_byte_that_differs_is_red_unless_bytes_are_not_promised_and_said_in_any_case(
    plan: Plan, runs: tuple[RunPaths, RunPaths]
) -> None:
    rewrite(runs[1].model(1), b"\1" * 10)
    red, green = judged(plan, runs), judged(plan, runs, may_differ="on a GPU")
    assert (red.light, EXIT_CODES[red.light], green.light) == ("red", 4, "green")
    for found in (red, green):
        assert "train-01: not the same bytes: iter-01/model/result" in "\n".join(rows.text(found))


def test_what_does_not_verify_or_has_other_counts_is_red_whatever_is_promised(
    plan: Plan, runs: tuple[RunPaths, RunPaths]
) -> None:
    rewrite(runs[0].selected(1), bytes(10), {"chunks": 16})
    rewrite(runs[1].selected(1), bytes(10), {"chunks": 15})
    found = judged(plan, runs, may_differ="on a GPU")
    assert found.light == "red"
    assert "merge-01: iter-01/selected: chunks 16, preempted 15" in "\n".join(rows.text(found))
    rewrite(runs[1].selected(1), bytes(10), {"chunks": 16})
    assert judged(plan, runs).light == "green"
    (runs[1].selected(1) / "result").write_bytes(b"\1" * 10)  # under the manifest of the other bytes
    found = judged(plan, runs, may_differ="on a GPU")
    assert found.light == "red" and "does not match its checksum" in "\n".join(rows.text(found))


def test_a_shard_that_is_missing_is_red(plan: Plan, runs: tuple[RunPaths, RunPaths]) -> None:
    (shard,) = runs[1].samples(1).glob("shard-00001")
    manifest.write(shard, Manifest("any", "other", True, ()))
    assert judged(plan, runs).light == "red"


def test_only_what_was_at_work_was_stopped_and_came_back_counts_as_preempted(plan: Plan) -> None:
    happened = [
        *attempt("prepare", 0, 9),  # nobody stopped it
        *attempt("train-00", 10, 20, 75),  # it never came back
        *attempt("evaluate-00", 30, None, job="2"),  # killed without a word
        *attempt("evaluate-00", 40, 50, job="2", restart=1),
        *attempt("merge-01", 60, 61, job="3"),  # ended within its notice, and was requeued all the same
        *attempt("merge-01", 70, 71, job="3", restart=1),
        *attempt("train-01", 80, 85, job="4"),  # made again by a launch: another job
        *attempt("train-01", 90, 95, job="5"),
        *attempt("evaluate-01", 100, 110, 1, job="6"),  # it failed
        *attempt("evaluate-01", 120, 130, job="6", restart=1),
    ]
    found = ledger.preempted(plan, happened)
    assert set(found) == {"evaluate-00", "merge-01"}
    assert (found["evaluate-00"].back_seconds, found["evaluate-00"].at_least) == (None, True)
    assert (found["merge-01"].finished, found["merge-01"].back_seconds) == (True, 9)


def test_preemptions_of_another_plan_do_not_count(plan: Plan) -> None:
    happened = [Launch(plan="old"), *stopped("prepare"), Launch(plan=plan.fingerprint)]
    assert ledger.preempted(plan, ledger.of_plan(happened, plan.fingerprint)) == {}
    again = [*happened, *stopped("train-00"), Launch(plan=plan.fingerprint)]
    assert set(ledger.preempted(plan, ledger.of_plan(again, plan.fingerprint))) == {"train-00"}


def test_who_is_at_work_is_who_started_and_has_not_ended_or_started_again(plan: Plan) -> None:
    happened = [*attempt("train-00", 0, 5, 75), *attempt("train-00", 9, None, restart=1)]
    assert [one.restart for one in ledger.at_work(happened, "train-00")] == [1]
    happened += [*attempt("train-00", 12, None, restart=2)]
    assert [one.restart for one in ledger.at_work(happened, "train-00")] == [2]
    assert ledger.at_work(happened, "train-01") == []


def test_to_be_stopped_once_more_a_stage_is_made_again_with_all_that_follows(
    plan: Plan, runs: tuple[RunPaths, RunPaths]
) -> None:
    remove(runs[1], plan, ["merge-01"])
    pending = [stage.key for stage in state.pending(runs[1], plan)]
    assert pending == ["merge-01", "train-01", "evaluate-01"]
