"""Nodes that new jobs leave out: how many, and what is said and recorded of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lt_hpc.cluster.slurm import submit
from lt_hpc.cluster.slurm.scheduler import spared_at
from lt_hpc.run import events
from lt_hpc.run.events import Ended, Excluded
from lt_hpc.run.state import pin_plan
from lt_hpc.status import main as status
from lt_hpc.store.paths import RunPaths
from tests.cluster.memory_queue import Cluster, make_plan
from tests.cluster.recorded import site


def fail(cluster: Cluster, paths: RunPaths, code: int = 71) -> None:
    """Tasks of the E-step in the queue fail on n1, but for one that ends well on n2; all leave the queue."""
    for task in [one for one in cluster.jobs_in_queue if cluster.stages[one.job] == "sample-01"]:
        cluster.jobs_in_queue.remove(task)
        node, ended = ("n2", 0) if task.index == 3 else ("n1", code)
        cause = "no device" if ended else ""
        events.record(paths, Ended(stage="sample-01", code=ended, cause=cause, job=task.identity, node=node))


def without(cluster: Cluster, key: str) -> list[list[str]]:
    return [cluster.without[job] for job in cluster.jobs(key)]


def test_what_is_submitted_after_failures_on_one_node_leaves_it_out_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, cluster, plan = RunPaths(tmp_path / "run"), Cluster(), make_plan()
    cluster.reconcile(plan, paths)
    assert without(cluster, "sample-01") == [[]]
    fail(cluster, paths)
    lines = cluster.reconcile(plan, paths).lines
    assert without(cluster, "sample-01") == [["n1"]]
    assert without(cluster, "merge-01") == without(cluster, "train-01") == [["n1"]], "they are waiting"
    assert any("leave out n1: " in line and "no device" in line for line in lines)

    for _ in range(2):
        (said,) = [one for one in events.read(paths) if isinstance(one, Excluded)]
        assert said.node == "n1" and "no device" in said.evidence
        take_all(cluster, "sample-01")
        cluster.reconcile(plan, paths)
    assert without(cluster, "sample-01") == [["n1"]], "as long as the run lasts"

    pin_plan(paths, plan)
    status([str(paths.root)])
    assert "jobs leave out n1 since " in capsys.readouterr().out


def take_all(cluster: Cluster, key: str) -> None:
    cluster.jobs_in_queue = [one for one in cluster.jobs_in_queue if cluster.stages[one.job] != key]


@pytest.mark.parametrize(("setting", "code"), [("slurm.excluded_share=0", 71), ("seed=0", 75)])
def test_nothing_is_left_out_where_that_is_turned_off_or_jobs_were_preempted(
    tmp_path: Path, setting: str, code: int
) -> None:
    paths, cluster, plan = RunPaths(tmp_path / "run"), Cluster(), make_plan(setting)
    cluster.reconcile(plan, paths)
    fail(cluster, paths, code)
    cluster.reconcile(plan, paths)
    assert without(cluster, "sample-01") == [[]]
    assert not [one for one in events.read(paths) if isinstance(one, Excluded)]


@pytest.mark.parametrize(
    ("overrides", "bad", "left_out"),
    [
        ([], ["n2", "n3"], ["n2"]),  # a quarter of four nodes, the worst
        (["slurm.excluded_share=0.5"], ["n3", "n1", "n2"], ["n3", "n1"]),
        (["slurm.excluded_share=0.2"], ["n1"], []),
        ([], ["gone", "n4"], ["n4"]),  # nobody runs on a node of another partition
        (["slurm.sample.nodes=4"], ["n1"], []),  # all are needed
        (["slurm.sample.options={nodelist: n1}"], ["n1"], []),
        (["slurm.sample.options={exclude: 'n[8-9]'}"], ["n1", "n2"], ["n[8-9]", "n1"]),
        (["slurm.partition=nowhere"], ["n1"], []),
        (["slurm.constraint=h100"], ["n1"], []),
    ],
)
def test_a_share_of_the_nodes_of_the_partition_is_left_out_at_most(
    overrides: list[str], bad: list[str], left_out: list[str]
) -> None:
    plan = make_plan(*overrides)
    assert spared_at(site("requeue"), plan, plan.stage("sample-01"), bad) == left_out


def test_nodes_that_are_down_are_not_counted_on() -> None:
    plan, whole = make_plan("slurm.sample.nodes=3"), site("requeue")
    nodes = tuple(dataclasses.replace(node, usable=node.name != "n4") for node in whole.nodes)
    stage, with_one_down = plan.stage("sample-01"), dataclasses.replace(whole, nodes=nodes)
    assert spared_at(whole, plan, stage, ["n1"]) == ["n1"]
    assert spared_at(with_one_down, plan, stage, ["n1"]) == []


def test_sbatch_is_asked_to_exclude_them() -> None:
    plan = make_plan("slurm.sample.options={exclude: n9}")
    found = submit.parameters(plan, plan.stage("sample-01"), "name", (), ["n9", "n1"])
    assert found["additional_parameters"]["exclude"] == "n9,n1"
    assert (
        "exclude" not in submit.parameters(plan, plan.stage("merge-01"), "name", ())["additional_parameters"]
    )
