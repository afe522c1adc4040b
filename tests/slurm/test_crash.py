"""A rank that aborts takes its job back into the queue, and training goes on from its checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.runs.small_run import events, outputs
from tests.slurm.conftest import Cluster
from tests.slurm.disturber import Disturber


def test_training_goes_on_after_a_rank_that_aborted(
    cluster: Cluster, local_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(local_run, run, ignore=shutil.ignore_patterns("iter-02", "progress"))
    for name in ("model", "eval"):
        shutil.rmtree(run / "iter-01" / name)
    disturber = Disturber(cluster, run)
    cluster.launch(run, "--iters", "1")
    disturber.freeze("train-01", "iter-01/checkpoints/*/step-*/manifest.json")
    disturber.abort_one()
    cluster.wait_idle()

    expected = {name: value for name, value in outputs(local_run).items() if "iter-02" not in name}
    assert outputs(run) == expected
    crashes = [event for event in events(run) if event["event"] == "crash"]
    assert [one["stage"] for one in crashes] == ["train-01"] and int(str(crashes[0]["step"])) > 0
    log = "\n".join(path.read_text() for path in (run / "slurm").glob("*_log.out"))
    assert "requeued, 1 of at most 2 times" in log
