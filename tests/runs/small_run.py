"""A small but complete run (real model, DeepSpeed on two ranks), started and killed as a user would."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SMALL_RUN = [
    "--iters=1",
    "--cluster=local",
    "corpus.num_documents=48",
    "warm.num_documents=24",
    "heldout.num_documents=12",
    "sample.num_samples=2",
    "sample.temperature=4",  # so hot that thoughts of a model that has hardly begun to learn end
    "merge.select=weighted",
    "merge.method=uniform",  # and all that end are trained on: those of a chunk share its prefix
    "evaluate.estimate_chunks=6",
    "evaluate.estimate_samples=16",
    "sample.block_chunks=4",
    "sample.num_shards=3",
    "warm_start.steps=6",
    "warm_start.checkpoint_steps=2",
    "train.steps=6",
    "train.checkpoint_steps=2",
    "train.prefixes=shared",
    "train.raw_loss_weight=0.5",
]
TIMEOUT_SECONDS = 600


def launch(run: Path, *more: str, umask: int = -1) -> subprocess.Popen[str]:
    """The launch command in a session of its own, output in one pipe; umask -1: as of this process."""
    return subprocess.Popen(
        [sys.executable, "-m", "lt_hpc.launch", "--run-dir", str(run), *SMALL_RUN, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        umask=umask,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the launcher; its output. The exit code must be 0."""
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, output
    return output


def outputs(run: Path) -> dict[str, str]:
    """SHA-256 of every file that is a result: models, samples, selections, metrics."""
    files = [
        path
        for pattern in ("base", "corpus", "warm", "heldout", "iter-*")
        for folder in sorted(run.glob(pattern))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "shards.json")
    ]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def events(run: Path) -> list[dict[str, object]]:
    """The lines of jobs.jsonl."""
    path = run / "jobs.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def task_pids(run: Path) -> dict[str, int]:
    """Task -> process id of its newest start, for those that have not ended."""
    pids: dict[str, int] = {}
    for event in events(run):
        if event["event"] == "started":
            pids[str(event["task"])] = int(str(event["pid"]))
        elif event["event"] == "ended":
            pids.pop(str(event["task"]), None)
    return pids


def progress(run: Path, task: str) -> int:
    """What the task last reported as done; 0 before its first report."""
    try:
        return int(json.loads((run / "progress" / f"{task}.json").read_text())["done"])
    except (FileNotFoundError, ValueError):
        return 0


def steps(run: Path, stage: str) -> list[dict[str, float]]:
    """The lines of a training's log, one a step that was made, in the order they were."""
    lines = [line for path in run.glob(f"logs/{stage}-*.jsonl") for line in path.read_text().splitlines()]
    return [value for value in map(json.loads, lines) if "step" in value]


def cpu_seconds(pid: int) -> float:
    """CPU time a process has used; infinite once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Poll a condition while the launcher lives."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, "the run did not reach the expected point"
        time.sleep(0.02)


def kill_all(process: subprocess.Popen[str], run: Path) -> None:
    """kill -9 the launcher and all its tasks, and wait until none is left."""
    pids = list(task_pids(run).values())
    for pid in (process.pid, *pids):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate()
    wait_until(lambda: all(cpu_seconds(pid) == float("inf") for pid in pids), process)
