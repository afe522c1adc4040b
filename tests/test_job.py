"""How a task leaves its job when it can't come to an end in time."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import lt_hpc.job
from lt_hpc.cluster.place import Place
from lt_hpc.cluster.signals import STOP_SIGNALS
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.run import events
from lt_hpc.run.build import build_plan
from lt_hpc.run.plan import plan_to_json
from lt_hpc.store.fingerprints import fingerprint
from lt_hpc.store.paths import RunPaths

HOUR = 3600.0


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> lt_hpc.job.Job:
    """Rank 0 of an evaluation with an hour, warned two minutes before its end."""
    config = load_config(demo_file(), ["slurm.evaluate.minutes=60"])
    plan = build_plan(config, 1, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
    path = RunPaths(tmp_path).plan(plan.fingerprint)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(plan_to_json(plan)))
    return lt_hpc.job.Job([str(tmp_path), plan.fingerprint, "evaluate-01"], SimpleNamespace(), Place(job="7"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stage", "elapsed", "kept", "in_vain"),
    [
        ("evaluate-01", HOUR - 100, False, True),
        ("evaluate-01", HOUR - 100, True, False),
        ("evaluate-01", HOUR / 2, False, False),  # preempted on the way
        ("evaluate-01", HOUR - 250, False, False),  # and late: twice the warning is left
        ("evaluate-01", HOUR - 230, False, True),
        ("sample-01", HOUR - 100, False, True),
        ("train-01", HOUR - 100, True, False),
        ("merge-01", HOUR - 100, True, True),  # it begins anew each time
        ("prepare", HOUR - 100, True, False),
    ],
)
def test_a_job_that_kept_nothing_of_all_its_time_is_not_requeued_for_ever(
    job: lt_hpc.job.Job,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    elapsed: float,
    kept: bool,
    in_vain: bool,
) -> None:
    job.stage = job.plan.stage(stage)
    job.tasks.append(SimpleNamespace(progress=SimpleNamespace(kept=kept)))
    monkeypatch.setattr(lt_hpc.job, "STARTED", time.monotonic() - elapsed)
    assert job.would_loop() is in_vain
    if in_vain:
        code, requeued, cause = job.requeue()
        assert (code, requeued) == (4, False)
        assert f"raise slurm.{stage.partition('-')[0]}.minutes" in cause


@pytest.mark.parametrize(("notice", "seconds"), [(8, 5), (30, 7.5), (120, 30), (600, 30)])
def test_most_of_the_notice_is_left_for_saving(notice: float, seconds: float) -> None:
    assert lt_hpc.job.margin(notice) == seconds


def test_a_plan_of_another_version_ends_the_job_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = RunPaths(tmp_path)
    later = {"config": {"of_a_later_release": 1}, "stages": []}
    name = fingerprint("plan", later, {})
    paths.plan(name).parent.mkdir(parents=True)
    paths.plan(name).write_text(json.dumps(later))
    given = {signal.Signals(number): signal.getsignal(number) for number in STOP_SIGNALS}
    for variable, value in Place(attempt="a").to_environment().items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit, match="of_a_later_release"):
        lt_hpc.job.run([str(tmp_path), name, "merge-01"])
    for number, handler in given.items():
        signal.signal(number, handler)
    (ended,) = events.read(paths)
    assert isinstance(ended, events.Ended)
    assert (ended.stage, ended.code) == ("merge-01", 2) and "of_a_later_release" in ended.cause


def test_a_task_tells_when_it_begins_and_where(job: lt_hpc.job.Job) -> None:
    began, place = job.started(), job.place
    assert (began.stage, began.job, began.restart, began.rank) == (
        job.stage.key,
        place.job,
        place.restart,
        place.rank,
    )
    events.record(job.paths, began)
    assert events.read(job.paths)[-1:] == [began]
