"""lt-hpc rehearse on a real Slurm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.runs.small_run import events, outputs
from tests.slurm.conftest import REPOSITORY, Cluster, small_config


def test_every_stage_of_a_small_copy_is_preempted_and_comes_back_to_the_same_bytes(
    cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "rehearsal"
    command = [
        *(sys.executable, "-m", "lt_hpc.cli", "rehearse", "--json", "--config", str(small_config(out))),
        *("--profile", str(REPOSITORY / "configs" / "cluster" / "devcluster.yaml"), "--out", str(out)),
        *("slurm.train.tasks_per_node=1", "train.steps=24", "train.checkpoint_steps=24"),
    ]
    result = subprocess.run(
        command, capture_output=True, text=True, env=cluster.environment, cwd=REPOSITORY, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout)
    rows = {row["stage"]: row for row in found["rows"]}
    stages = ["prepare", "train-00", "evaluate-00", "sample-01", "merge-01", "train-01", "evaluate-01"]
    assert (found["light"], found["may_differ"], list(rows)) == ("green", "", stages)
    assert outputs(out / "preempted") == outputs(out / "undisturbed")
    assert "GraceTime=10 of partition preempt" in found["simulated"][0]
    again = {event["stage"] for event in events(out / "preempted") if event.get("restart")}
    assert again == set(stages), "Slurm itself has started each of them again"
    assert not [event for event in events(out / "undisturbed") if event.get("restart")]
    assert any(0 < row["kept"] < row["total"] for row in rows.values()), "none was stopped in its middle"
