"""Killed at a random moment of each stage, then launched again: the same bytes as undisturbed."""

from __future__ import annotations

import random
import signal
from pathlib import Path

from tests.faults.small_run import (
    cpu_seconds,
    events,
    finish,
    kill_all,
    launch,
    outputs,
    progress,
    steps,
    task_pids,
    wait_until,
)

STAGES = ("prepare", "train-00", "evaluate-00", "sample-01", "merge-01", "train-01", "evaluate-01")
SEED = random.SystemRandom().randrange(2**32)


def test_killed_in_every_stage_the_run_ends_with_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    rng = random.Random(SEED)
    killed = []
    for stage in STAGES:
        task = f"{stage}.0"
        process = launch(run)
        if stage.startswith("train"):
            target = rng.randint(1, 5)
            wait_until(lambda stage=stage, target=target: len(steps(run, stage)) >= target, process)
        elif stage.startswith("sample"):
            target = rng.randint(1, 5)
            wait_until(lambda task=task, target=target: progress(run, task) >= target, process)
        else:
            target = rng.uniform(0.1, 5.0)
            wait_until(lambda task=task: task in task_pids(run), process)
            pid = task_pids(run).get(task, -1)
            wait_until(lambda pid=pid, target=target: cpu_seconds(pid) >= target, process)
        kill_all(process, run)
        killed.append(f"{stage} at {target:.1f}")
    finish(launch(run))
    assert outputs(run) == outputs(undisturbed), f"seed {SEED}, killed: {', '.join(killed)}"


def test_after_a_kill_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    run, steps = tmp_path / "run", "warm_start.steps=200"
    process = launch(run, steps)
    wait_until(lambda: progress(run, "train-00.0") >= 4, process)
    kill_all(process, run)
    (run / "progress" / "train-00.0.json").unlink()
    process = launch(run, steps)
    wait_until(lambda: progress(run, "train-00.0") >= 1, process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    log = (run / "logs" / "train-00.0.log").read_text()
    starts = [line for line in log.splitlines() if line.endswith("/200 steps")]
    assert len(starts) == 2 and starts[0].startswith("0/"), log
    assert not starts[1].startswith("0/"), log


def test_ctrl_c_keeps_finished_blocks_and_says_how_to_go_on(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = launch(run)
    wait_until(lambda: progress(run, "sample-01.0") >= 1, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 75, output
    assert "goes on from here" in output
    assert not task_pids(run)
    parts = {path: path.stat().st_mtime_ns for path in run.glob("iter-01/samples/*/part-*.parquet")}
    assert parts
    finish(launch(run))
    assert outputs(run) == outputs(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in parts} == parts, "finished blocks were sampled again"


def test_launched_again_a_finished_run_starts_nothing(undisturbed: Path) -> None:
    before = len(events(undisturbed))
    assert "0 to do" in finish(launch(undisturbed))
    assert len(events(undisturbed)) == before
