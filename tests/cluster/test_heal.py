"""What the chain submits again by itself, and what it leaves to a person."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.cluster import heal
from lt_hpc.cluster.names import run_id
from lt_hpc.cluster.scheduler import Gone
from lt_hpc.errors import StageError
from lt_hpc.run import events
from lt_hpc.run.events import Launch, Lost
from lt_hpc.run.plan import Plan
from lt_hpc.store.paths import RunPaths
from tests.cluster.memory_queue import Cluster, make_plan


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path / "run")


def take(cluster: Cluster, key: str, state: str, index: int | None = None) -> None:
    """Have the queue lose a stage's jobs, or one array task of it."""
    for task in [one for one in cluster.jobs_in_queue if cluster.stages[one.job] == key]:
        if index is None or task.index == index:
            cluster.jobs_in_queue.remove(task)
            person, again = state == "CANCELLED", state == "PREEMPTED"
            cluster.jobs_gone.append(Gone(task.job, task.index, task.name, state, person, again))


def again(cluster: Cluster, plan: Plan, paths: RunPaths) -> list[str]:
    """What one look of a job that is nowhere in this chain submits."""
    outcome = heal.resubmit_lost(plan, paths, cluster, "1")
    return [] if outcome is None else list(outcome.submitted)


@pytest.mark.parametrize("key", ["prepare", "train-00", "evaluate-01", "sample-01"])
def test_what_the_cluster_took_away_is_submitted_again_and_what_follows_waits_for_it(
    paths: RunPaths, key: str
) -> None:
    cluster, plan = Cluster(), make_plan()
    cluster.reconcile(plan, paths)
    take(cluster, key, "PREEMPTED")
    assert again(cluster, plan, paths) == [key]
    assert [one.stage for one in events.read(paths) if isinstance(one, Lost)] == [key]
    (job,) = cluster.jobs(key)
    for stage in plan.stages:
        if key in stage.needs:
            assert all(job in cluster.waits[later] for later in cluster.jobs(stage.key))
    assert again(cluster, plan, paths) == [], "it is in the queue now"


def test_what_a_person_cancelled_is_left_alone(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan()
    cluster.reconcile(plan, paths)
    take(cluster, "train-01", "CANCELLED")
    assert again(cluster, plan, paths) == []
    take(cluster, "sample-01", "PREEMPTED", index=0)
    take(cluster, "sample-01", "CANCELLED")
    assert again(cluster, plan, paths) == [], "some tasks of the array were cancelled"
    with pytest.raises(StageError, match=r"sample-01: job \d+ was cancelled \(scancel\)"):
        heal.heal(plan, paths, cluster, plan.stage("merge-01"), "1")


@pytest.mark.parametrize("state", ["PREEMPTED", "CANCELLED"])
def test_what_became_of_jobs_is_asked_for_those_alone_that_made_a_stage_last(
    paths: RunPaths, state: str
) -> None:
    """The controller has forgotten all of them; accounting knows them by their ids."""
    cluster, plan = Cluster(), make_plan()
    cluster.reconcile(plan, paths)
    take(cluster, "train-01", "CANCELLED")
    cluster.reconcile(plan, paths)
    take(cluster, "train-01", state)
    cluster.jobs_forgotten, cluster.jobs_gone = cluster.jobs_gone, []
    happened = events.read(paths)
    (asked,) = heal.submitted_last([plan.stage("train-01")], happened)
    assert asked == cluster.jobs_forgotten[-1].job
    found = heal.gone_of(run_id(paths), plan.stages, happened, cluster.gone([asked]))
    assert {key: [one.state for one in jobs] for key, jobs in found.items()} == {"train-01": [state]}
    assert again(cluster, plan, paths) == (["train-01"] if state == "PREEMPTED" else [])


def test_a_job_of_an_earlier_submission_says_nothing_of_the_present_one(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan()
    cluster.reconcile(plan, paths)
    take(cluster, "train-01", "CANCELLED")
    cluster.reconcile(plan, paths)
    take(cluster, "train-01", "PREEMPTED")
    assert again(cluster, plan, paths) == ["train-01"]


def test_preemption_may_go_on_for_ever_and_lack_of_memory_not(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan()
    cluster.reconcile(plan, paths)
    for _ in range(3 * heal.MAX_LOSSES):
        take(cluster, "train-01", "PREEMPTED")
        assert again(cluster, plan, paths) == ["train-01"]
    for _ in range(heal.MAX_LOSSES):
        take(cluster, "train-01", "OUT_OF_MEMORY")
        assert again(cluster, plan, paths) == ["train-01"]
    take(cluster, "train-01", "OUT_OF_MEMORY")
    with pytest.raises(StageError, match=r"train-01: gave up.*raise slurm\.train\.memory"):
        again(cluster, plan, paths)
    events.record(paths, Launch())
    assert again(cluster, plan, paths) == ["train-01"], "a person has launched again"


def test_a_job_that_is_being_taken_away_is_submitted_again_behind_itself(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan()
    cluster.reconcile(plan, paths)
    (own,) = cluster.jobs("evaluate-01")
    gone = Gone(own, None, "", "PREEMPTED", again=True)
    heal.resubmit_lost(plan, paths, cluster, own, heal.Loss(plan.stage("evaluate-01"), (gone,)))
    (new,) = set(cluster.jobs("evaluate-01")) - {own}
    assert own in cluster.waits[new]
