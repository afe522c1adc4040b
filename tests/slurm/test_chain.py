"""The whole chain on a real Slurm: the same bytes as on one machine."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from tests.runs.small_run import events, outputs
from tests.slurm.conftest import Cluster, begun, small_config, start, stop


def test_two_iterations_through_arrays_and_multi_node_training(
    cluster: Cluster, local_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "a run's folder"  # white space and a quote must survive every shell
    # Two tasks of two processes sample, a shard each; two tokenise, one of which has nothing to do.
    options = ("--iters", "2", "slurm.sample.tasks_per_node=2", "prepare.num_shards=2")
    printed = cluster.launch(run, *options)
    assert "cluster: slurm" in printed
    assert "sample-02: submitted" in printed
    again = cluster.launch(run, *options)
    assert "submitted as" not in again, "launched again while queued, it must not submit anything"
    status = cluster.run(sys.executable, "-m", "lt_hpc.status", str(run), check=False)
    (line,) = [line for line in status.splitlines() if line.startswith("sample-02")]
    assert "jobs: 2 pending" in line
    cluster.wait_idle()
    assert outputs(run) == outputs(local_run)
    assert [row["iteration"] for row in json.loads((run / "report.json").read_text())["iterations"]] == [
        0,
        1,
        2,
    ]
    assert importlib.import_module("lt_hpc.status").main([str(run)]) == 0
    assert "0 to do" in cluster.launch(run, *options)
    logs = [path.read_text() for path in (run / "slurm").glob("*_log.out")]
    assert sum("node=1(2)" in text for text in logs) == 3, "training did not span two nodes"


def test_with_an_accounting_database_and_a_submit_limit(
    local_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cluster = start(tmp_path_factory.mktemp("slurm-accounting"), "--nodes", "4", "--accounting")
    try:
        run = tmp_path_factory.mktemp("accounting") / "run"
        # 3 jobs and an E-step: with 2 tasks, that handle 2 shards each, the user may not have more.
        cluster.run("sacctmgr", "-i", "modify", "qos", "normal", "set", "MaxSubmitJobsPerUser=5")
        begun(local_run, run)
        cluster.launch(run, "--iters", "1", "slurm.train.nodes=1", "slurm.train.tasks_per_node=2")
        assert len(cluster.queue()) == 5
        cluster.wait_idle()
        expected = {name: value for name, value in outputs(local_run).items() if "iter-02" not in name}
        assert outputs(run) == expected
    finally:
        stop(cluster)


def test_em_iter_makes_one_iteration_each_time(cluster: Cluster, local_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun(local_run, run)
    options = ["--nodes=2", "--ntasks-per-node=1", f"--output={tmp_path}/em-%j.log"]
    command = [
        "sbatch",
        *options,
        "slurm/em_iter.sh",
        "--run-dir",
        str(run),
        "--config",
        str(small_config(run)),
        "evaluate.num_shards=2",
    ]
    first, second = (cluster.run(*command).split()[-1] for _ in range(2))
    cluster.wait(lambda: first not in {entry[0] for entry in cluster.queue()}, "the first iteration")
    logs = "\n".join(path.read_text() for path in sorted(tmp_path.glob("em-*.log")))
    assert (run / "iter-01" / "eval" / "metrics.json").exists(), logs
    assert not (run / "iter-02" / "eval").exists()
    cluster.wait(lambda: second in {e.get("job") for e in events(run)}, "the start of the second one")
    refused = cluster.run(*cluster.launch_command(run, "--iters", "2"), check=False)
    assert second in refused and "work on this run" in refused
    cluster.wait_idle()
    assert (run / "iter-02" / "eval" / "metrics.json").exists()
    assert not (run / "iter-03").exists()
    made = {name: value for name, value in outputs(run).items() if "/measured/" not in name}
    assert made == outputs(local_run)
    assert len(list((run / "iter-02" / "measured").glob("shard-*"))) == 2
