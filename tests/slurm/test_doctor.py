"""lt-hpc doctor on a real Slurm, with jobs that look at its nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.slurm.conftest import REPOSITORY, Cluster

PROFILE = REPOSITORY / "configs" / "cluster" / "devcluster.yaml"


def doctor(cluster: Cluster, run: Path, *more: str) -> tuple[int, list[dict[str, str]]]:
    """Exit code and rows."""
    command = [sys.executable, "-m", "lt_hpc.cli", "doctor", "--profile", str(PROFILE), "--run-dir", str(run)]
    result = subprocess.run(
        [*command, "--iters", "1", "--json", *more],
        capture_output=True, text=True, env=cluster.environment, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


def test_it_reads_the_site_and_submits_nothing(cluster: Cluster, tmp_path: Path) -> None:
    code, rows = doctor(cluster, tmp_path / "run", "slurm.train.nodes=5")
    found = {(row["group"], row["what"]): row for row in rows}
    train = found["train on partition preempt", "nodes"]
    assert code == 2 and (train["verdict"], train["change"]) == ("refused", "slurm.train.nodes=4")
    assert "GraceTime=10 of partition preempt" in found["train on partition preempt", "preemption"]["found"]
    assert [row for row in rows if row["verdict"] == "refused"] == [train]
    assert cluster.queue() == [] and not (tmp_path / "run").exists()


def test_a_job_looks_at_a_node_and_leaves_nothing_behind(cluster: Cluster, tmp_path: Path) -> None:
    code, rows = doctor(cluster, tmp_path / "run", "--probe")
    there = {row["what"]: row for row in rows if row["group"].startswith("a node for prepare")}
    assert code == 0, [row for row in rows if row["verdict"] == "refused"]
    assert "sees it, and what it wrote is here" in there["run folder"]["found"]
    assert "flock" in there["operations"]["found"] and "is imported" in there["deepspeed"]["found"]
    assert "kept its --requeue" in there["requeue"]["found"]
    cluster.wait_idle()
    assert not (tmp_path / "run").exists()


def test_why_there_is_no_answer_is_said(cluster: Cluster, tmp_path: Path) -> None:
    settings = ("slurm.sample.options={begin: now+1hour}", "slurm.setup=[cd /no/such/place]")
    code, rows = doctor(cluster, tmp_path / "run", "--probe", "--probe-seconds", "20", *settings)
    answers = {row["group"]: row for row in rows if row["what"] == "answer"}
    others = "a node for prepare, train, evaluate, merge"
    assert code == 2 and set(answers) == {"a node for sample", others}
    assert "PENDING (BeginTime)" in answers["a node for sample"]["found"]
    ended = answers[others]
    assert ended["verdict"] == "refused" and "has ended without an answer" in ended["found"]
    logs = Path(ended["change"].rpartition(" ")[2])
    assert any("slurm.setup failed" in log.read_text() for log in logs.glob("*_log.out"))
    cluster.wait_idle()
