"""What reconcile submits, for any mixture of done, queued and lost work."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc import config as configuration
from lt_hpc.cluster import chain
from lt_hpc.cluster import plan as planning
from lt_hpc.cluster.plan import Plan, Stage
from lt_hpc.cluster.slurm import Queued
from lt_hpc.errors import StageError
from lt_hpc.store.paths import RunPaths

SOURCES = {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"}


def make_plan(*overrides: str, iterations: int = 1) -> Plan:
    config = configuration.load(configuration.demo_file(), list(overrides))
    return planning.make(config, iterations, dict(SOURCES))


@dataclass
class Cluster:
    """A queue in memory: what was submitted stays in it until the test takes it out."""

    queue: list[Queued] = field(default_factory=list)
    waits: dict[str, set[str]] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(100))

    def submit(self, stage: Stage, name: str, tasks: chain.Tasks, after: Collection[str]) -> list[str]:
        job = str(next(self.ids))
        indices = range(len(tasks)) if len(tasks) > 1 else [None]
        self.queue += [Queued(job, index, name, "PENDING", "Dependency") for index in indices]
        self.waits[job] = set(after)
        self.stages[job] = stage.key
        return [job]

    def set_dependency(self, job: str, after: Collection[str]) -> None:
        self.waits[job] = set(after)

    def cancel(self, jobs: Collection[str]) -> None:
        self.queue = [q for q in self.queue if q.job not in jobs and f"{q.job}_{q.index}" not in jobs]

    def reconcile(self, plan: Plan, paths: RunPaths, limit: int | None = None) -> chain.Outcome:
        backend = chain.Backend(self.submit, self.set_dependency, self.cancel)
        room = None if limit is None else limit - len(self.queue)
        return chain.reconcile(plan, paths, list(self.queue), backend, room=room)

    def jobs(self, key: str) -> list[str]:
        return sorted({q.job for q in self.queue if self.stages[q.job] == key})


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
    before = list(cluster.queue)
    assert cluster.reconcile(plan, paths).submitted == {}
    assert cluster.queue == before


def test_a_lost_shard_is_submitted_alone_and_the_merge_waits_for_it_too(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan("sample.num_shards=5")
    first = cluster.reconcile(plan, paths)
    cluster.cancel([f"{first.jobs['sample-01'][0]}_3"])
    second = cluster.reconcile(plan, paths)
    assert list(second.submitted) == ["sample-01"]
    record = [r for r in chain.records(paths) if r["event"] == "submit"][-1]
    assert record["shards"] == [[3]]
    merge = cluster.jobs("merge-01")[0]
    assert cluster.waits[merge] == {*first.jobs["sample-01"], *second.submitted["sample-01"]}


def test_long_arrays_are_split_and_the_merge_waits_for_all_pieces(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan("sample.num_shards=25", "slurm.max_array_size=10")
    outcome = cluster.reconcile(plan, paths)
    assert len(outcome.jobs["sample-01"]) == 3
    assert cluster.waits[cluster.jobs("merge-01")[0]] == set(outcome.jobs["sample-01"])


def covered(paths: RunPaths, stage: str) -> list[list[int]]:
    """The shards of every task submitted for a stage."""
    records = [r for r in chain.records(paths) if r["event"] == "submit" and r["stage"] == stage]
    return [shards for record in records for shards in record["shards"]]


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
        assert len(cluster.queue) <= max(limit, single + iterations)
        for iteration in range(1, iterations + 1):
            tasks = covered(paths, f"sample-{iteration:02d}")
            assert [s for task in tasks for s in task] == list(range(shards))
            assert len(tasks) in (shards, max(1, (limit - single) // iterations)), "as many as fit"


def test_a_job_that_has_started_is_not_told_to_wait(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan("sample.num_shards=3")
    first = cluster.reconcile(plan, paths)
    cluster.cancel([f"{first.jobs['sample-01'][0]}_1"])
    merge = cluster.jobs("merge-01")[0]
    cluster.queue = [
        dataclasses.replace(q, state="RUNNING", reason="None") if q.job == merge else q for q in cluster.queue
    ]
    waits = dict(cluster.waits)
    assert list(cluster.reconcile(plan, paths).submitted) == ["sample-01"]
    assert cluster.waits[merge] == waits[merge]


def test_jobs_of_the_chain_and_allocations_are_told_from_other_work() -> None:
    queue = [
        Queued(str(i), None, name, "RUNNING", "None") for i, name in enumerate(("lt-ab-1", "lt-abc-1", "x"))
    ]
    assert [q.job for q in chain.of_run("ab", queue, [])] == ["0"]
    lines = [{"event": "allocation", "job": "2"}, {"event": "submit", "job": "1"}]
    assert [q.job for q in chain.of_run("ab", queue, lines)] == ["0", "2"]


def test_jobs_that_can_never_run_are_replaced(paths: RunPaths) -> None:
    cluster, plan = Cluster(), make_plan()
    cluster.reconcile(plan, paths)
    stuck = cluster.jobs("merge-01")[0]
    cluster.queue = [
        Queued(q.job, q.index, q.name, q.state, "DependencyNeverSatisfied") if q.job == stuck else q
        for q in cluster.queue
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

    class Died(Exception):
        pass

    def submit_and_die(stage: Stage, name: str, tasks: chain.Tasks, after: Collection[str]) -> list[str]:
        cluster.submit(stage, name, tasks, after)
        raise Died

    backend = chain.Backend(submit_and_die, cluster.set_dependency, cluster.cancel)
    with pytest.raises(Died):
        chain.reconcile(plan, paths, [], backend)
    outcome = cluster.reconcile(plan, paths)
    assert "prepare" not in outcome.submitted
    assert len(cluster.jobs("prepare")) == 1


def test_a_merge_heals_a_bounded_number_of_times(paths: RunPaths) -> None:
    merge = make_plan().stage("merge-01")
    for _ in range(chain.MAX_HEALS):
        chain.record_heal(paths, merge, "shard 3 is missing")
    with pytest.raises(StageError, match="shard 3 is missing"):
        chain.record_heal(paths, merge, "shard 3 is missing")
