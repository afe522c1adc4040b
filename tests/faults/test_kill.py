"""Killed at a random moment of each stage, then launched again: the same bytes as undisturbed."""

from __future__ import annotations

import json
import random
import shutil
import signal
from functools import partial
from pathlib import Path

from tests.runs.small_run import (
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

OUTPUTS = {
    "prepare": ("base", "corpus", "warm", "heldout"),
    "train-00": ("iter-00/model",),
    "evaluate-00": ("iter-00/eval",),
    "sample-01": ("iter-01/samples",),
    "merge-01": ("iter-01/selected",),
    "train-01": ("iter-01/model",),
    "evaluate-01": ("iter-01/eval",),
}


def kill_during(run: Path, stage: str, rng: random.Random) -> str:
    """Launch, and kill everything at a random moment of a stage; says when. A stage that was quicker
    loses its outputs and is killed earlier."""
    latest = 5.0 if stage.startswith(("train", "sample")) else 7.0
    while True:
        moment = rng.uniform(0.1, latest)
        process = launch(run)
        wait_until(partial(reached, run, stage, moment), process)
        kill_all(process, run)
        if not over(run, stage):
            return f"{stage} at {moment:.1f}"
        for name in OUTPUTS[stage]:
            shutil.rmtree(run / name)
        latest = moment


def reached(run: Path, stage: str, moment: float) -> bool:
    """Whether a stage has made so many steps or blocks, or else used so many seconds of CPU; or has ended."""
    task = f"{stage}.0"
    if stage.startswith("train"):
        return len(steps(run, stage)) >= moment
    if stage.startswith("sample"):
        return progress(run, task) >= moment
    pid = task_pids(run).get(task)
    return (pid is not None and cpu_seconds(pid) >= moment) or over(run, stage)


def over(run: Path, stage: str) -> bool:
    """Whether all outputs of a stage are complete."""
    return all(complete(run / name) for name in OUTPUTS[stage])


def complete(folder: Path) -> bool:
    """What the manifest of a folder says, or those of its shards."""
    if folder.name == "samples":
        return len(list(folder.glob("shard-*"))) == 3 and all(map(complete, folder.glob("shard-*")))
    path = folder / "manifest.json"
    return path.exists() and bool(json.loads(path.read_text())["complete"])


def test_killed_in_every_stage_the_run_ends_with_the_same_bytes(
    undisturbed: Path, tmp_path: Path, rng: random.Random
) -> None:
    run = tmp_path / "run"
    killed = ", ".join(kill_during(run, stage, rng) for stage in OUTPUTS)
    finish(launch(run))
    assert outputs(run) == outputs(undisturbed), f"killed: {killed}"


def test_ctrl_c_keeps_finished_blocks_and_says_how_to_go_on(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    shutil.rmtree(run / "iter-01")
    shutil.rmtree(run / "progress")
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
    assert [event["event"] for event in events(undisturbed)[before:]] == ["launch"]
