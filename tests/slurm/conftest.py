"""A real Slurm of four nodes on this machine, and runs on it as a user would start them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TIMEOUT_SECONDS = 600
RANKS = 2  # on two nodes, or both on one; a local run with as many ranks gives the same bytes
SMALL = """
name: small
model: {path: builtin:demo_base, context_length: 128}
chunking: {mode: given, max_chunk_tokens: 16, prefix_chunks: 0}
corpus: {source: builtin:chain, seed: 1, num_documents: 64}
warm: {source: builtin:chain, seed: 2, num_documents: 24}
heldout: {source: builtin:chain, seed: 3, num_documents: 12}
warm_start: {steps: 8, batch_tokens: 1536, learning_rate: 2.0e-3, checkpoint_steps: 2, zero_stage: 2}
train: {steps: 8, batch_tokens: 1536, learning_rate: 2.0e-3, checkpoint_steps: 2, zero_stage: 2}
sample: {num_samples: 2, block_chunks: 4, num_shards: 4, max_thought_tokens: 24}
evaluate: {max_answer_tokens: 4}
"""


@dataclass(frozen=True)
class Cluster:
    """A running dev cluster."""

    environment: dict[str, str]
    folder: Path

    def run(self, *command: str, check: bool = True) -> str:
        """A command with this cluster's configuration; its output."""
        result = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, cwd=REPOSITORY, check=False
        )
        assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result.stdout + result.stderr

    def launch(self, run: Path, *more: str, config: Path | None = None) -> str:
        """The launch command on Slurm; its output."""
        return self.run(*self.launch_command(run, *more, config=config))

    def launch_command(self, run: Path, *more: str, config: Path | None = None) -> list[str]:
        file = config or small_config(run)
        profile = REPOSITORY / "configs" / "cluster" / "devcluster.yaml"
        return [
            *(sys.executable, "-m", "lt_hpc.launch", "--cluster", "slurm", "--run-dir", str(run)),
            *("--config", str(file), "--profile", str(profile), "slurm.train.tasks_per_node=1", *more),
        ]

    def queue(self) -> list[list[str]]:
        """(id, name, state, reason) of every job and array task in the queue."""
        text = self.run("squeue", "-h", "-r", "-o", "%i|%j|%T|%r")
        return [line.split("|") for line in text.splitlines()]

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Poll until the condition holds."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen; queue: {self.queue()}"
            time.sleep(0.3)

    def wait_idle(self) -> None:
        """Wait until no job is left."""
        self.wait(lambda: not self.queue(), "an empty queue")


def small_config(run: Path) -> Path:
    """The configuration of a small run, beside its folder."""
    run.parent.mkdir(parents=True, exist_ok=True)
    file = run.parent / "small.yaml"
    file.write_text(SMALL)
    return file


def begun(local_run: Path, run: Path) -> None:
    """Copy a run as it is once its iteration 0 is made."""
    shutil.copytree(local_run, run, ignore=shutil.ignore_patterns("iter-01", "iter-02", "progress"))


def start(folder: Path, *options: str) -> Cluster:
    """Bring a dev cluster up."""
    result = subprocess.run(
        ["bash", str(REPOSITORY / "tools" / "devcluster.sh"), "up", "--dir", str(folder), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    variable = result.stdout.strip().removeprefix("export SLURM_CONF=").strip("'\"")
    environment = {**os.environ, "SLURM_CONF": variable, "OMP_NUM_THREADS": "1"}
    return Cluster(environment, folder)


def stop(cluster: Cluster) -> None:
    """Take it down."""
    cluster.run("bash", "tools/devcluster.sh", "down", "--dir", str(cluster.folder))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four nodes, no accounting."""
    running = start(tmp_path_factory.mktemp("slurm"), "--nodes", "4")
    yield running
    stop(running)


@pytest.fixture(scope="session")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two iterations of the small run without Slurm, with as many ranks: what every Slurm run
    has to equal."""
    run = tmp_path_factory.mktemp("local") / "run"
    command = [
        *(sys.executable, "-m", "lt_hpc.launch", "--cluster", "local", "--iters", "2"),
        *("--run-dir", str(run), "--config", str(small_config(run)), f"local.train_ranks={RANKS}"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return run
