"""What the shell of a user says to Slurm's commands does not change a run."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lt_hpc.launch import main
from tests.slurm.conftest import REPOSITORY, Cluster

SHELL = {
    **{f"SQUEUE_{name}": "nobody" for name in ("ACCOUNT", "LICENSES", "NAMES", "PARTITION", "QOS", "USERS")},
    "SQUEUE_STATES": "RUNNING",
    "SQUEUE_FORMAT": "%i",
    "SQUEUE_FORMAT2": "jobid",
    "SQUEUE_SORT": "-i",
    "SBATCH_JOB_NAME": "lab",
    "SBATCH_TIMELIMIT": "3",
    "SBATCH_PARTITION": "high",
    "SBATCH_MEM_PER_NODE": "100M",
    "SBATCH_NO_REQUEUE": "1",
    "SBATCH_ARRAY_INX": "0-3",
    "SBATCH_OUTPUT": "/dev/null",
    "SBATCH_ERROR": "/dev/null",
    "SBATCH_OPEN_MODE": "truncate",
    "SBATCH_SIGNAL": "TERM@1",
    "SBATCH_WAIT": "1",
    "SCANCEL_STATE": "RUNNING",
    "SCANCEL_PARTITION": "high",
    "SCANCEL_NAME": "lab",
    "SCANCEL_INTERACTIVE": "1",
    "SCONTROL_ALL": "1",
    "SLURM_CLUSTERS": "elsewhere",
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
    assert all(re.fullmatch(r"[a-z]+(-\d\d)?\.[\w-]+\.lt-.*", name) for name in jobs.values())
    identity = min(jobs, key=lambda job: int(job.partition("_")[0]))
    asked = dict(
        word.partition("=")[::2] for word in cluster.run("scontrol", "show", "job", identity).split()
    )
    assert (asked["Partition"], asked["TimeLimit"], asked["Requeue"]) == ("preempt", "00:10:00", "1")
    assert asked["StdOut"].startswith(str(run)) and asked["MinMemoryNode"] == "0"
    assert "JobState=PENDING" in cluster.run("scontrol", "show", "job", identity)
    changed = launch(cluster, run, "seed=5")  # scancel reaches the jobs of the old settings, which all wait
    assert "cancelled" in changed
    left = {job for job, *_ in cluster.queue()}
    assert left & jobs.keys() == {identity}, "only prepare is the same with another seed"
    cluster.run("scancel", "--user", os.environ.get("USER", "root"))
    cluster.wait_idle()


OWN = {
    "job_name=mine": "slurm.options.job_name",
    "job-name=mine": "slurm.options.job-name",
    "J=mine": "slurm.options.J",
    "array=0-9": "slurm.options.array",
    "dependency=singleton": "slurm.options.dependency",
    "signal=B:TERM@10": "slurm.signal_seconds",
    "output=/dev/null": "slurm.options.output",
    "requeue=false": "slurm.options.requeue",
    "no-requeue=true": "slurm.options.no-requeue",
    "time=5": "minutes",
    "nodes=3": "nodes",
    "ntasks=1": "tasks_per_node",
    "mem=1G": "memory",
    "partition=high": "partition",
    "clusters=gpu": "slurm.options.clusters",
}
"""Options of sbatch that launch sets itself, and what is named in their place."""


@pytest.mark.parametrize("option", OWN)
def test_an_option_that_launch_sets_itself_is_refused_and_nothing_is_submitted(
    cluster: Cluster, tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    before = cluster.queue()
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    for place in ("slurm.options", "slurm.train.options"):
        name, _, value = option.partition("=")
        arguments = cluster.launch_command(tmp_path / "run", f"{place}={{{name}: '{value}'}}")[3:]
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert place in said and OWN[option].removeprefix("slurm.options.") in said
        assert len(said.splitlines()) == 1
    assert cluster.queue() == before and not (tmp_path / "run").exists()


def test_other_options_reach_the_jobs_as_they_were_typed(cluster: Cluster, tmp_path: Path) -> None:
    typed = "slurm.options={begin: now+1hour, comment: 'a #b 007', nice: 12, exclude: n4}"
    out = launch(cluster, tmp_path / "run", typed, "slurm.train.options={comment: '1e3'}")
    jobs = re.findall(r"submitted as job (\d+)", out)
    assert len(jobs) == 7
    comments = []
    for job in jobs:
        asked = cluster.run("scontrol", "show", "job", job)
        comments.append(re.findall(r"Comment=(.*)", asked)[0].strip())
        assert "ExcNodeList=n4" in asked and re.search(r"Nice=12\b", asked)
    assert sorted(set(comments)) == ["1e3", "a #b 007"]
    assert comments.count("1e3") == 2, "the two trainings"
    cluster.run("scancel", *jobs)
    cluster.wait_idle()


@pytest.mark.parametrize("name", ["a%u b", "e%%f", "c%j", "g\\h"])
def test_a_run_folder_that_slurm_would_expand_is_refused(cluster: Cluster, tmp_path: Path, name: str) -> None:
    before = cluster.queue()
    said = cluster.run(*cluster.launch_command(tmp_path / name), check=False)
    assert "Slurm expands % and" in said and cluster.queue() == before


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
