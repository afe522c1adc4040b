"""What status says of a stage."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.run import events
from lt_hpc.run.build import build_plan
from lt_hpc.run.events import Ended, Lost
from lt_hpc.run.overview import Row, rows
from lt_hpc.run.plan import Plan
from lt_hpc.run.state import pin_plan
from lt_hpc.status import main
from lt_hpc.store import manifest, shards
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import RunPaths, shard_folder
from lt_hpc.store.shards import ShardMap


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path)


@pytest.fixture
def plan(paths: RunPaths) -> Plan:
    made = build_plan(load_config(demo_file()), 1, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
    pin_plan(paths, made)
    return made


def row(paths: RunPaths, plan: Plan, key: str, jobs: Counter[str] | None = None) -> Row:
    found = rows(paths, plan, {key: jobs or Counter()}, events.read(paths))
    return next(one for one in found if one.stage == key)


def at_work(paths: RunPaths, task: str, written: float | None = None, **value: object) -> None:
    """A progress file of a task that wrote it `written` seconds ago."""
    file = paths.progress(task)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"unit": "blocks", "note": "", **value}))
    if written is not None:
        os.utime(file, (time.time() - written, time.time() - written))


def test_a_stage_that_was_stopped_or_failed_says_why_unless_it_is_in_the_queue_again(
    paths: RunPaths, plan: Plan
) -> None:
    for code, cause, said in ((75, "cancelled", "stopped: "), (1, "no memory", "FAILED: ")):
        events.record(paths, Ended(stage="train-01", code=code, cause=cause, job="7", node="n1"))
        line = str(row(paths, plan, "train-01"))
        assert said in line and f"job 7 on n1, exit code {code}: {cause}" in line
        assert said not in str(row(paths, plan, "train-01", Counter(PENDING=1)))


def test_jobs_that_were_taken_away_or_cancelled_are_named_a_few_of_them(paths: RunPaths, plan: Plan) -> None:
    found = row(paths, plan, "sample-01")
    line = str(replace(found, gone=[f"job 7_{task} NODE_FAIL" for task in range(5)]))
    assert line.endswith("gone: job 7_0 NODE_FAIL, job 7_1 NODE_FAIL, job 7_2 NODE_FAIL and 2 more")
    assert "gone" not in str(found)


def test_stops_are_counted_once_each(paths: RunPaths, plan: Plan) -> None:
    for restart in (0, 1):
        for rank in (0, 1):
            one = Ended(stage="train-01", code=75, cause="requeued", job="7", restart=restart, rank=rank)
            events.record(paths, one)
    for job in ("7", "8"):  # the first was seen by itself too
        events.record(paths, Lost(stage="train-01", fingerprint="f", job=job, state="PREEMPTED", again=True))
    assert "stopped and submitted again: 3 times" in str(row(paths, plan, "train-01"))


def test_the_time_left_is_that_of_the_slowest_task_at_work(paths: RunPaths, plan: Plan) -> None:
    at_work(paths, "sample-01.0", done=4, total=4, first=0, spent=50.0)
    at_work(paths, "sample-01.1", done=3, total=9, first=1, spent=20.0)
    at_work(paths, "sample-01.2", done=2, total=3, first=0, spent=20.0)
    at_work(paths, "sample-01.3", done=5, total=9, first=5, spent=20.0)
    found = row(paths, plan, "sample-01").work
    assert found is not None and found.seconds_left == pytest.approx(60, abs=2)
    said = str(row(paths, plan, "sample-01"))
    assert "last seen at 14/25 blocks, " in said and "s left at this pace" in said
    at_work(paths, "merge-01.0", done=0, total=4, first=0, spent=50.0)
    assert "left" not in str(row(paths, plan, "merge-01"))


def test_a_stage_that_is_done_says_nothing_of_its_tasks(paths: RunPaths, plan: Plan) -> None:
    at_work(paths, "train-00.0", done=3, total=9, first=0, spent=50.0)
    found = row(paths, plan, "train-00")
    assert found.work is not None and (found.work.done, found.work.total) == (3, 9)
    folder, fingerprint = plan.stage("train-00").output, plan.stage("train-00").fingerprint
    manifest.write(paths.root / folder, Manifest("model", fingerprint, True, ()))
    found = row(paths, plan, "train-00")
    assert found.done and found.work is None


def test_programs_get_one_object(paths: RunPaths, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(paths.root), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["complete"] is False
    assert [one["stage"] for one in found["stages"]] == [stage.key for stage in plan.stages]
    assert not any(one["done"] for one in found["stages"])


def test_shards_are_done_running_or_missing(paths: RunPaths, plan: Plan) -> None:
    stage = plan.stage("sample-01")
    pinned = shards.pin(paths.samples(1), ShardMap(stage.fingerprint, 100, 5, 6))
    done = shard_folder(paths.samples(1), 0)
    done.mkdir(parents=True)
    manifest.write(done, Manifest("samples", pinned.fingerprint(0), True, ()))
    # At its end, at work twice, and killed an hour ago.
    for task, blocks, written in ((0, 4, None), (1, 3, None), (2, 0, None), (3, 2, 3600)):
        at_work(paths, f"sample-01.{task}", written, done=blocks, total=4)
    for jobs, said in (
        (Counter(), "shards: 1 done, 2 running, 3 missing"),
        (Counter(RUNNING=3, PENDING=2), "1 done, 3 running, 2 missing   jobs: 2 pending, 3 running"),
        (Counter(RUNNING=9), "shards: 1 done, 5 running, 0 missing"),
        (Counter(PENDING=5), "shards: 1 done, 0 running, 5 missing"),  # progress files of an earlier start
    ):
        assert said in str(row(paths, plan, "sample-01", jobs))
