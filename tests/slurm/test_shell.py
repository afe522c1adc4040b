"""What the shell of a user says to Slurm's commands does not change a run."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.slurm.conftest import REPOSITORY, Cluster

SHELL = {
    "SQUEUE_STATES": "RUNNING",
    "SQUEUE_PARTITION": "high",
    "SBATCH_JOB_NAME": "lab",
    "SBATCH_TIMELIMIT": "3",
    "SBATCH_PARTITION": "high",
    "SBATCH_NO_REQUEUE": "1",
    "SBATCH_ARRAY_INX": "0-3",
    "SBATCH_OUTPUT": "/dev/null",
    "SCANCEL_STATE": "RUNNING",
}
"""As a .bashrc or a module of a site sets them."""


def launch(cluster: Cluster, run: Path, *more: str) -> str:
    command = cluster.launch_command(run, "--iters", "1", "slurm.options={begin: now+1hour}", *more)
    result = subprocess.run(
        command, env={**cluster.environment, **SHELL}, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_users_variables_hide_no_jobs_and_beat_no_setting(cluster: Cluster, tmp_path: Path) -> None:
    run = tmp_path / "run"
    before = {job for job, *_ in cluster.queue()}

    def mine() -> dict[str, str]:
        """Name by job, without state and reason: Slurm fills in why a job waits in its own time."""
        return {job: name for job, name, *_ in cluster.queue() if job not in before}

    launch(cluster, run)
    jobs = mine()
    again = launch(cluster, run)
    assert "submitted as" not in again and "already queued as job" in again
    assert mine() == jobs
    assert len(jobs) == 6 + 4, "six stages of one job, and an array of four shards"
    assert all(name.startswith("lt-") for name in jobs.values())
    identity = min(jobs, key=lambda job: int(job.partition("_")[0]))
    asked = dict(
        word.partition("=")[::2] for word in cluster.run("scontrol", "show", "job", identity).split()
    )
    assert (asked["Partition"], asked["TimeLimit"], asked["Requeue"]) == ("preempt", "00:10:00", "1")
    assert asked["StdOut"].startswith(str(run))
    changed = launch(cluster, run, "seed=5")  # scancel reaches the jobs of the old settings, which all wait
    assert "cancelled" in changed
    left = {job for job, *_ in cluster.queue()}
    assert left & jobs.keys() == {identity}, "only prepare is the same with another seed"
    cluster.run("scancel", "--user", os.environ.get("USER", "root"))
    cluster.wait_idle()


def test_a_failed_stage_starts_nothing_that_waits_for_it(cluster: Cluster, tmp_path: Path) -> None:
    run, blank = tmp_path / "run", tmp_path / "blank.jsonl"
    blank.write_text('{"question": " ", "answer": " "}\n')
    columns = ("corpus.question_column=question", "corpus.answer_column=answer")
    cluster.launch(run, "--iters", "1", f"corpus.source={blank}", "corpus.num_documents=null", *columns)
    cluster.wait_idle()
    ended = [line for line in map(json.loads, (run / "jobs.jsonl").open()) if line["event"] == "ended"]
    assert [(one["stage"], one["code"]) for one in ended] == [("prepare", 2)]
    assert "no usable document" in ended[0]["cause"] and "cancelled what waits for it" in ended[0]["cause"]
    assert len(list(run.glob("slurm/*_log.out"))) == 1


def test_a_line_of_setup_that_fails_ends_the_job_with_its_text(cluster: Cluster, tmp_path: Path) -> None:
    run = tmp_path / "run"
    cluster.launch(run, "--iters", "0", "slurm.setup=[umask 027, cd /no/such/place]")
    cluster.wait_idle()
    logs = [path.read_text() for path in run.glob("slurm/*_log.out")]
    assert len(logs) == 3 and not (run / "base").exists()
    assert all("slurm.setup failed with exit code 1: cd /no/such/place\n" in log for log in logs)
