"""Preempted in the middle of its stages, a run on a real Slurm ends as an undisturbed one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.runs.small_run import events, outputs
from tests.slurm.conftest import Cluster, begun
from tests.slurm.disturber import Disturber


def test_preempted_training_goes_on_from_what_it_kept(
    cluster: Cluster, local_run: Path, tmp_path: Path
) -> None:
    """By a partition of higher priority; tests/slurm/test_rehearse.py requeues every stage by hand."""
    run = tmp_path / "run"
    shutil.copytree(local_run, run, ignore=shutil.ignore_patterns("iter-02", "progress"))
    for made in ("model", "eval"):
        shutil.rmtree(run / "iter-01" / made)
    disturber = Disturber(cluster, run)
    cluster.launch(run, "--iters", "1")
    disturber.freeze("train-01", "iter-01/checkpoints/*/step-*/manifest.json")
    disturber.preempt("train-01")
    cluster.wait_idle()

    expected = {name: value for name, value in outputs(local_run).items() if "iter-02" not in name}
    assert outputs(run) == expected
    assert disturber.restarts("train-01") >= 1
    log = "\n".join(path.read_text() for path in (run / "slurm").glob("*_0_log.out"))
    resumed = [int(step) for step in re.findall(r"^(\d+)/8 steps", log, flags=re.MULTILINE)]
    assert any(step > 0 for step in resumed), f"training did not go on from a checkpoint: {resumed}"


def test_what_preemption_cancels_is_submitted_again_by_the_chain_and_what_a_person_cancels_is_not(
    cluster: Cluster, local_run: Path, tmp_path: Path
) -> None:
    """A partition with PreemptMode=CANCEL and no grace time."""
    run = tmp_path / "run"
    begun(local_run, run)
    disturber = Disturber(cluster, run)
    cluster.launch(run, "--iters", "1", "slurm.partition=cancel")
    for stage, files in (
        ("sample-01", "iter-01/samples/*/part-*.parquet"),
        ("merge-01", "iter-01/selected/*"),
        ("train-01", "iter-01/checkpoints/*/step-*/manifest.json"),
        ("evaluate-01", "progress/evaluate-01.*"),
    ):
        disturber.freeze(stage, files)
        disturber.preempt(stage)
    cluster.wait_idle()
    expected = {name: value for name, value in outputs(local_run).items() if "iter-02" not in name}
    assert outputs(run) == expected
    lost = [event["stage"] for event in events(run) if event["event"] == "lost"]
    assert {"sample-01", "train-01", "evaluate-01"} <= set(lost), "a merge may be faster than its preemption"

    shutil.rmtree(run / "iter-01" / "model")
    shutil.rmtree(run / "iter-01" / "eval")
    cluster.launch(run, "--iters", "1", "slurm.partition=cancel")
    disturber.await_running("train-01")
    cluster.run("scancel", *disturber.running("train-01"))
    cluster.wait_idle()
    assert not (run / "iter-01" / "model").exists()
    assert [event["stage"] for event in events(run) if event["event"] == "lost"] == lost
