"""Launching again, twice at once, with two thousand shards, and with a stage that fails."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from lt_hpc.data import base_model
from tests.runs.small_run import events
from tests.slurm.conftest import REPOSITORY, Cluster

HELD = "slurm.options={begin: now+2hours}"


def test_two_launchers_at_once_submit_each_job_once(cluster: Cluster, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = cluster.launch_command(run, "--iters", "1", HELD)
    both = [
        subprocess.Popen(command, env=cluster.environment, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    names = Counter(name for _, name, _, _ in cluster.queue())
    cluster.run("scancel", "--me")
    cluster.wait_idle()
    stages = Counter(event["stage"] for event in events(run) if event["event"] == "submit")
    assert set(stages.values()) == {1}, stages
    assert sorted(names.values()) == [1] * 6 + [4], "6 single jobs and one array of 4 shards"


def test_an_answer_of_sbatch_that_got_lost_leaves_no_job_twice(cluster: Cluster, tmp_path: Path) -> None:
    """The controller took the job, and the client timed out."""
    lossy, real = tmp_path / "bin" / "sbatch", shutil.which("sbatch")
    lossy.parent.mkdir()
    lossy.write_text(
        f'#!/bin/bash\n[[ -e {tmp_path}/lost ]] && exec {real} "$@"\n{real} "$@" >{tmp_path}/lost\n'
        'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2\n'
        "exit 1\n"
    )
    lossy.chmod(0o755)
    path = f"{lossy.parent}:{cluster.environment['PATH']}"
    run = tmp_path / "run"
    dataclasses.replace(cluster, environment={**cluster.environment, "PATH": path}).launch(
        run, "--iters", "1", HELD
    )
    lost = (tmp_path / "lost").read_text().split()[-1]
    names = Counter(name for job, name, _, _ in cluster.queue() if job != lost)
    still_there = lost in {job for job, _, state, _ in cluster.queue() if state != "COMPLETING"}
    cluster.run("scancel", "--me")
    cluster.wait_idle()
    assert sorted(names.values()) == [1] * 6 + [4]
    assert not still_there


def test_two_thousand_shards_are_split_and_reconciled_in_seconds(cluster: Cluster, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ["--iters", "1", "sample.num_shards=2000", HELD]
    started = time.monotonic()
    printed = cluster.launch(run, *settings)
    submitted = time.monotonic() - started
    pieces = [event["shards"] for event in events(run) if event["event"] == "submit" and event["shards"]]
    assert sorted(shard for piece in pieces for (shard,) in piece) == list(range(2000))
    assert all(len(piece) <= 1001 for piece in pieces)
    arrays = {job.split("_")[0] for job, _, _, _ in cluster.queue() if "_" in job}
    merge = next(line for line in printed.splitlines() if "merge-01: submitted" in line)
    assert len(arrays) == 2 and all(array in merge for array in arrays), "merge must wait for all pieces"
    lost = sorted(arrays)[1]
    cluster.run("scancel", lost)
    started = time.monotonic()
    again = cluster.launch(run, *settings)
    reconciled = time.monotonic() - started
    live = [job for job, _, _, _ in cluster.queue() if "_" in job]
    cluster.run("scancel", "--me")
    cluster.wait_idle()
    print(f"2,000 shards: submitted in {submitted:.1f} s, reconciled in {reconciled:.1f} s")
    assert len(live) == 2000
    assert "sample-01: submitted" in again and "now waits for" in again


def test_a_requeued_job_is_not_submitted_again_and_a_cancelled_one_stays_away(
    cluster: Cluster, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = ["--iters", "0", "warm_start.steps=5000"]
    cluster.launch(run, *settings)
    job = next(str(e["jobs"][0]) for e in submitted(run, "train-00"))

    def steps_done() -> bool:
        log = next(run.glob("logs/train-00-*.jsonl"), None)
        return log is not None and log.stat().st_size > 0

    def state() -> str:
        return cluster.run("squeue", "-h", "-j", job, "-o", "%T", check=False).strip()

    cluster.wait(steps_done, "training")
    cluster.run("scontrol", "requeue", job)
    assert "submitted" not in cluster.launch(run, *settings), "while it was on its way back into the queue"
    cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    size = next(run.glob("logs/train-00-*.jsonl")).stat().st_size
    cluster.wait(lambda: next(run.glob("logs/train-00-*.jsonl")).stat().st_size > size, "training again")
    cluster.run("scancel", job)
    cluster.wait(lambda: state() not in ("RUNNING", "COMPLETING"), "the end of the cancelled job")
    assert state() != "PENDING", "it put itself back into the queue"
    cluster.run("scancel", "--me")
    cluster.wait_idle()


def test_a_task_that_cannot_stop_within_its_notice_is_requeued_all_the_same(
    cluster: Cluster, local_run: Path, tmp_path: Path
) -> None:
    """One block that takes minutes, and 8 s of notice."""
    run = tmp_path / "run"
    shutil.copytree(local_run, run)
    shutil.rmtree(run / "progress")
    block = ("sample.num_samples=4000", "sample.block_chunks=64", "sample.num_shards=1")
    cluster.launch(run, "--iters", "1", *block, "slurm.signal_seconds=8")
    job = str(submitted(run, "sample-01")[-1]["jobs"][0])  # those before are of the local run

    def states() -> set[str]:
        return {state for name, _, state, _ in cluster.queue() if name.partition("_")[0] == job}

    def ended() -> list[str]:
        mine = [e for e in events(run) if e["event"] == "ended" and e["job"] and e["stage"] == "sample-01"]
        return [str(e["cause"]) for e in mine]

    cluster.wait(lambda: any(run.glob("progress/sample-01.*.json")), "the start of the block")
    cluster.run("scancel", "--signal=USR2", job)
    cluster.wait(lambda: bool(ended()), "an end")
    cluster.wait(lambda: "PENDING" in states(), "the requeue")
    (cause,) = ended()
    assert "not at a place to stop after 8 s" in cause and cause.endswith("; requeued")
    assert not list(run.glob("iter-01/samples/*/part-*"))
    cluster.run("scancel", "--me")
    cluster.wait_idle()


def submitted(run: Path, stage: str) -> list[dict[str, Any]]:
    """The "submitted" events of a stage."""
    names = {e["submission"] for e in events(run) if e["event"] == "submit" and e["stage"] == stage}
    return [e for e in events(run) if e["event"] == "submitted" and e["submission"] in names]


def test_a_failing_stage_stops_the_chain_and_names_the_cause(cluster: Cluster, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(base_model.BUILTIN["builtin:demo_base"], model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    run = tmp_path / "run"
    cluster.launch(run, "--iters", "1", f"model.path={model}")
    cluster.wait_idle()
    (ended,) = (e for e in events(run) if e["event"] == "ended")
    assert (ended["stage"], ended["code"]) == ("prepare", 2)
    assert "model.path=" in str(ended["cause"]) and "can't be loaded" in str(ended["cause"])
    assert "cancelled what waits for it" in str(ended["cause"])
