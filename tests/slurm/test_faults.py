"""A run to which everything happens, on a real Slurm: it ends like one that nothing happened to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs.small_run import outputs
from tests.slurm.conftest import RANKS, REPOSITORY, Cluster, small_config
from tests.slurm.disturber import Disturber

SETTINGS = [
    "--iters",
    "1",
    "sample.num_shards=8",
    "corpus.num_documents=256",
    "sample.num_samples=8",
    "train.steps=400",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on one machine, with as many ranks."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    command = [
        *(sys.executable, "-m", "lt_hpc.launch", "--cluster", "local", "--run-dir", str(run)),
        *("--config", str(small_config(run)), f"local.train_ranks={RANKS}", *SETTINGS),
    ]
    subprocess.run(command, check=True, cwd=REPOSITORY)
    return run


def processes() -> str:
    """The command lines of every process on the machine."""
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_everything_happens_and_the_bytes_are_the_same(
    cluster: Cluster, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    disturber = Disturber(cluster, run)
    cluster.launch(run, *SETTINGS)

    tasks = disturber.await_running("sample-01", at_least=1)
    parts = {p: p.stat().st_mtime_ns for p in (run / "iter-01" / "samples").glob("*/part-*.parquet")}
    assert parts
    disturber.preempt("sample-01")

    tasks = disturber.await_running("sample-01")
    cluster.run("scontrol", "requeue", tasks[0], check=False)
    tasks = disturber.await_running("sample-01")
    node = cluster.run("squeue", "-h", "-j", tasks[-1], "-o", "%N").strip()
    lost = cluster.run("squeue", "-h", "-w", node, "-o", "%A").split()
    cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    waiting = [job for job, _, state, _ in cluster.queue() if "_" in job and state in ("PENDING", "RUNNING")]
    cluster.run("scancel", waiting[-1])
    cluster.launch(run, *SETTINGS)

    corrupt = next(iter(parts))
    data = bytearray(corrupt.read_bytes())
    data[len(data) // 2] ^= 0xFF
    corrupt.write_bytes(data)
    kept = {path: time for path, time in parts.items() if path != corrupt}

    # Slurm takes a node out for good when it is asked for a job whose old steps still run there.
    cluster.wait(lambda: not any(f"slurmstepd: [{job}." in processes() for job in lost), "a clean node")
    cluster.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
    disturber.await_running("merge-01")
    disturber.preempt("merge-01")

    jobs = disturber.await_running("train-01", at_least=3)
    disturber.preempt("train-01")
    jobs = disturber.await_running("train-01", at_least=6)
    before = json.loads((run / "progress" / "train-01.0.json").read_text())["done"]
    cluster.run("scontrol", "update", f"JobId={jobs[0]}", "TimeLimit=1")
    cluster.wait(lambda: not disturber.running("train-01"), "the time limit's warning")
    cluster.run("scontrol", "update", f"JobId={jobs[0]}", "TimeLimit=30", check=False)
    cluster.wait_idle()
    cluster.launch(run, *SETTINGS)
    cluster.wait_idle()

    assert outputs(run) == outputs(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "finished blocks were sampled again"
    assert disturber.restarts("train-01") >= 2, "training was not preempted and timed out as meant"
    log = "\n".join(path.read_text() for path in (run / "slurm").glob("*_0_log.out"))
    resumed = [line for line in log.splitlines() if line.endswith("/400 steps") and not line.startswith("0/")]
    assert resumed, f"no attempt went on from a checkpoint (before the limit: step {before})"
