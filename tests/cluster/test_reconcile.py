"""What reconcile submits, for any mixture of done, queued and lost work."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.cluster import heal, names, reconcile
from lt_hpc.cluster.scheduler import Queued, Tasks
from lt_hpc.cluster.slurm.scheduler import limits
from lt_hpc.errors import StageError
from lt_hpc.run import events
from lt_hpc.run.events import Claim, Launch, Submit
from lt_hpc.run.plan import Plan, plan_to_json
from lt_hpc.store.atomic import write_json
from lt_hpc.store.paths import RunPaths
from tests.cluster.memory_queue import Cluster, Died, make_plan


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path / "run")


def test_a_new_run_is_submitted_whole_and_chained(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan(iterations=2)
    outcome = cluster.reconcile(plan, paths)
    assert list(outcome.submitted) == [stage.key for stage in plan.stages]
    for stage in plan.stages:
        for job in outcome.jobs[stage.key]:
            assert cluster.waits[job] == {j for need in stage.needs for j in outcome.jobs[need]}


def test_launched_again_nothing_is_submitted(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan()
    cluster.reconcile(plan, paths)
    before = list(cluster.jobs_in_queue)
    assert cluster.reconcile(plan, paths).submitted == {}
    assert cluster.jobs_in_queue == before


def test_a_lost_shard_is_submitted_alone_and_the_merge_waits_for_it_too(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan("sample.num_shards=5")
    first = cluster.reconcile(plan, paths)
    cluster.cancel([f"{first.jobs['sample-01'][0]}_3"])
    second = cluster.reconcile(plan, paths)
    assert list(second.submitted) == ["sample-01"]
    record = submissions(paths)[-1]
    assert record.shards == [[3]]
    merge = cluster.jobs("merge-01")[0]
    assert cluster.waits[merge] == {
        *cluster.jobs("prepare"),
        *first.jobs["sample-01"],
        *second.submitted["sample-01"],
    }


def test_long_arrays_are_split_and_the_merge_waits_for_all_pieces(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan("sample.num_shards=25", "slurm.max_array_size=10")
    outcome = cluster.reconcile(plan, paths)
    assert len(outcome.jobs["sample-01"]) == 3
    needs = {*outcome.jobs["sample-01"], *outcome.jobs["prepare"]}
    assert cluster.waits[cluster.jobs("merge-01")[0]] == needs


def submissions(paths: RunPaths) -> list[Submit]:
    return [one for one in events.read(paths) if isinstance(one, Submit)]


def covered(paths: RunPaths, stage: str) -> list[list[int]]:
    """The shards of every task submitted for a stage."""
    return [shards for one in submissions(paths) if one.stage == stage for shards in one.shards]


def test_with_more_shards_than_tasks_a_task_handles_several(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan("sample.num_shards=25", "slurm.max_array_tasks=4")
    job = cluster.reconcile(plan, paths).jobs["sample-01"][0]
    tasks = covered(paths, "sample-01")
    assert len(tasks) == 4 and max(map(len, tasks)) - min(map(len, tasks)) <= 1
    assert [shard for shards in tasks for shard in shards] == list(range(25))
    cluster.cancel([f"{job}_2"])
    cluster.reconcile(plan, paths)
    assert sorted(s for shards in covered(paths, "sample-01")[4:] for s in shards) == tasks[2]


@given(limit=st.integers(12, 200), iterations=st.integers(1, 3), shards=st.integers(1, 60))
def test_a_run_keeps_within_the_sites_submit_limit(limit: int, iterations: int, shards: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cluster, paths = Cluster(), RunPaths(Path(folder) / "run")
        plan = make_plan(f"sample.num_shards={shards}", iterations=iterations)
        cluster.reconcile(plan, paths, limit)
        single = sum(stage.name != "sample" for stage in plan.stages)
        assert len(cluster.jobs_in_queue) <= max(limit, single + iterations)
        for iteration in range(1, iterations + 1):
            tasks = covered(paths, f"sample-{iteration:02d}")
            assert [s for task in tasks for s in task] == list(range(shards))
            assert len(tasks) in (shards, max(1, (limit - single) // iterations)), "as many as fit"


def test_a_job_that_has_started_is_not_told_to_wait(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan("sample.num_shards=3")
    first = cluster.reconcile(plan, paths)
    cluster.cancel([f"{first.jobs['sample-01'][0]}_1"])
    merge = cluster.jobs("merge-01")[0]
    cluster.jobs_in_queue = [
        dataclasses.replace(q, state="RUNNING", waiting=False) if q.job == merge else q
        for q in cluster.jobs_in_queue
    ]
    waits = dict(cluster.waits)
    assert list(cluster.reconcile(plan, paths).submitted) == ["sample-01"]
    assert cluster.waits[merge] == waits[merge]


def started(cluster: Cluster, key: str) -> str:
    """Have the job of a stage start; its id."""
    (job,) = cluster.jobs(key)
    cluster.jobs_in_queue = [
        dataclasses.replace(q, state="RUNNING", waiting=False) if q.job == job else q
        for q in cluster.jobs_in_queue
    ]
    return job


def test_a_job_that_has_started_without_its_input_is_replaced(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan()
    cluster.reconcile(plan, paths)
    old = started(cluster, "train-01")
    cluster.cancel(cluster.jobs("merge-01"))
    outcome = cluster.reconcile(plan, paths)
    assert list(outcome.submitted) == ["merge-01", "train-01"]
    (new,) = cluster.jobs("train-01")
    assert new != old and cluster.waits[new] >= {*outcome.submitted["merge-01"], old}
    assert new in cluster.waits[cluster.jobs("evaluate-01")[0]]


def test_what_waits_for_a_stage_that_failed_is_cancelled(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan("sample.num_shards=3", iterations=2)
    cluster.reconcile(plan, paths)
    started(cluster, "prepare")
    own = started(cluster, "train-00")
    sampling = plan.stage("sample-01")
    assert reconcile.cancel_stranded(plan, paths, cluster, sampling, "7") == [], "train-00 is still at work"
    others = {q.identity for q in cluster.jobs_in_queue if q.waiting}
    assert set(reconcile.cancel_stranded(plan, paths, cluster, plan.stage("train-00"), own)) == others
    assert {cluster.stages[q.job] for q in cluster.jobs_in_queue} == {"prepare", "train-00"}


def test_the_first_task_without_its_input_cancels_its_siblings(paths: RunPaths) -> None:
    """Nobody tells a chain that a job was killed, or that its node failed."""
    cluster, plan = Cluster(), make_plan("sample.num_shards=3")
    cluster.reconcile(plan, paths)
    gone = ("prepare", "train-00")
    cluster.jobs_in_queue = [q for q in cluster.jobs_in_queue if cluster.stages[q.job] not in gone]
    (array,) = cluster.jobs("sample-01")
    cluster.jobs_in_queue = [
        dataclasses.replace(q, state="RUNNING", waiting=False) if q.identity == f"{array}_0" else q
        for q in cluster.jobs_in_queue
    ]
    cancelled = reconcile.cancel_stranded(plan, paths, cluster, plan.stage("sample-01"), array)
    assert {f"{array}_1", f"{array}_2"} <= set(cancelled)
    assert [q.identity for q in cluster.jobs_in_queue] == [f"{array}_0"]


def test_jobs_of_the_chain_and_allocations_are_told_from_other_work() -> None:
    queue = [Queued(str(i), None, name, "RUNNING") for i, name in enumerate(("lt-ab-1", "lt-abc-1", "x"))]
    assert [q.job for q in reconcile.of_run("ab", queue, [])] == ["0"]
    claims = [
        Claim(run="ab", job="2", iterations=1),
        Claim(run="of the folder it was copied from", job="1", iterations=1),
    ]
    assert [q.job for q in reconcile.of_run("ab", queue, claims)] == ["0", "2"]


def test_jobs_that_can_never_run_are_replaced(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan()
    cluster.reconcile(plan, paths)
    stuck = cluster.jobs("merge-01")[0]
    cluster.jobs_in_queue = [
        dataclasses.replace(q, hopeless=True) if q.job == stuck else q for q in cluster.jobs_in_queue
    ]
    outcome = cluster.reconcile(plan, paths)
    assert list(outcome.submitted) == ["merge-01"]
    assert cluster.jobs("merge-01") == outcome.submitted["merge-01"] != [stuck]
    assert cluster.waits[cluster.jobs("train-01")[0]] >= set(outcome.submitted["merge-01"])


def test_other_settings_replace_the_queued_jobs_that_depend_on_them(paths: RunPaths) -> None:
    cluster = Cluster()
    cluster.reconcile(make_plan(), paths)
    outcome = cluster.reconcile(make_plan("sample.num_samples=3"), paths)
    assert set(outcome.submitted) == {"sample-01", "merge-01", "train-01", "evaluate-01"}
    assert len(cluster.jobs("sample-01")) == 1


def test_a_launcher_that_died_after_sbatch_is_not_repeated(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan()

    cluster.dies = True
    with pytest.raises(Died):
        cluster.reconcile(plan, paths)
    cluster.dies = False
    outcome = cluster.reconcile(plan, paths)
    assert "prepare" not in outcome.submitted
    assert len(cluster.jobs("prepare")) == 1


def test_a_merge_heals_a_bounded_number_of_times_in_vain(paths: RunPaths) -> None:
    merge = make_plan().stage("merge-01")
    for missing in (9, 8, 7, 7, 7):
        heal.record_heal(paths, merge, missing, "found by job 7")
    for missing in (7, 8):
        with pytest.raises(StageError, match=f"{missing} are missing: found by job 8"):
            heal.record_heal(paths, merge, missing, "found by job 8")
    heal.record_heal(paths, merge, 6, "fewer than before")
    for _ in range(heal.MAX_HEALS - 1):
        heal.record_heal(paths, merge, 6, "found by job 9")
    with pytest.raises(StageError):
        heal.record_heal(paths, merge, 6, "found by job 9")
    events.record(paths, Launch(plan="p"))
    heal.record_heal(paths, merge, 6, "a person has launched again")


def test_a_copied_run_folder_leaves_the_jobs_of_the_original_alone(paths: RunPaths, tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.reconcile(make_plan(), paths)
    before = list(cluster.jobs_in_queue)
    copy = RunPaths(Path(shutil.copytree(paths.root, tmp_path / "copy")))
    assert reconcile.find_jobs(make_plan("seed=1"), copy, cluster.jobs_in_queue) == ({}, set())
    outcome = cluster.reconcile(make_plan("seed=1"), copy)
    assert cluster.jobs_in_queue[: len(before)] == before and "prepare" in outcome.submitted
    renamed = RunPaths(paths.root.rename(tmp_path / "renamed"))
    assert cluster.reconcile(make_plan(), renamed).submitted == {}


def test_a_launch_with_fewer_iterations_leaves_the_later_ones_alone(paths: RunPaths) -> None:
    cluster = Cluster()
    cluster.reconcile(make_plan(iterations=3), paths)
    before = list(cluster.jobs_in_queue)
    cluster.reconcile(make_plan(iterations=1), paths)
    assert cluster.jobs_in_queue == before
    cluster.reconcile(make_plan("seed=1", iterations=1), paths)
    left = {cluster.stages[task.job] for task in cluster.jobs_in_queue if task in before}
    later = {stage.key for stage in make_plan(iterations=3).stages if stage.iteration > 1}
    assert left == {"prepare"} | later


def test_a_merge_heals_by_the_last_launch_where_that_wants_the_same_of_it() -> None:
    own = make_plan(iterations=2)
    longer, shorter = make_plan(iterations=3), make_plan(iterations=1)
    other_training = make_plan("train.learning_rate=0.001", iterations=2)
    other_samples = make_plan("sample.num_samples=3", iterations=2)
    assert heal.plan_to_heal(own, longer, "merge-02") is longer
    assert heal.plan_to_heal(own, shorter, "merge-02") is own
    assert heal.plan_to_heal(own, other_training, "merge-01") is other_training
    assert heal.plan_to_heal(own, other_training, "merge-02") is None
    assert heal.plan_to_heal(own, other_samples, "merge-01") is None


def tasks(
    plan: Plan, wanted: dict[str, list[int] | None], array_size: int = 1001, room: int | None = None
) -> list[Tasks]:
    """What is submitted for sample-01."""
    of_site = limits(plan, plan.stage("sample-01"), array_size, room)
    return reconcile.array_tasks(wanted, {"sample-01": of_site})["sample-01"]


def test_array_tasks_with_several_processes_have_a_shard_for_each() -> None:
    plan = make_plan("sample.num_shards=10", "slurm.sample.tasks_per_node=4")
    wanted: dict[str, list[int] | None] = {"sample-01": list(range(10)), "merge-01": []}
    (array,) = tasks(plan, wanted)
    assert [len(shards) for shards in array] == [3, 3, 4]
    (array,) = tasks(plan, wanted, room=2)
    assert [len(shards) for shards in array] == [10]


def test_a_site_with_short_arrays_gets_them_by_the_plan_that_is_pinned() -> None:
    plan = make_plan("sample.num_shards=7")
    pieces = tasks(plan, {"sample-01": list(range(7))}, array_size=3)
    assert [len(piece) for piece in pieces] == [3, 3, 1]


def test_queued_jobs_with_other_slurm_settings_are_named(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan("slurm.sample.minutes=60")
    write_json(paths.plan(plan.fingerprint), plan_to_json(plan))
    first = cluster.reconcile(plan, paths)
    assert not [line for line in cluster.reconcile(plan, paths).lines if "other slurm settings" in line]
    changed = make_plan("slurm.sample.minutes=90")
    named = [line for line in cluster.reconcile(changed, paths).lines if "other slurm settings" in line]
    assert len(named) == 1 and named[0].startswith("sample-01:") and first.jobs["sample-01"][0] in named[0]


def test_the_states_of_a_stages_jobs_are_counted(paths: RunPaths) -> None:
    cluster = Cluster()
    cluster.reconcile(make_plan("sample.num_shards=3"), paths)
    cluster.jobs_in_queue = [
        dataclasses.replace(q, state="RUNNING", waiting=False) if q.index == 1 else q
        for q in cluster.jobs_in_queue
    ] + [Queued("7", None, "other", "RUNNING")]
    found = reconcile.states(names.run_id(paths), cluster.jobs_in_queue, events.read(paths))
    assert found["sample-01"] == {"PENDING": 2, "RUNNING": 1} and found["merge-01"] == {"PENDING": 1}
    assert sum(sum(counts.values()) for counts in found.values()) == len(cluster.jobs_in_queue) - 1
