"""Where tools/chaos.py launches its runs: as forks on this machine, or on the Slurm of this shell."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from lt_hpc import status
from tools.disturb import forked
from tools.disturb.forked import Forked, Strike

SETTINGS = [
    "--iters=1", "corpus.num_documents=24", "warm.num_documents=16", "heldout.num_documents=6",
    "sample.num_samples=2", "sample.block_chunks=4", "sample.num_shards=3", "warm_start.steps=4",
    "warm_start.checkpoint_steps=2", "train.steps=4", "train.checkpoint_steps=2", "local.train_ranks=1",
    "local.threads=1", "evaluate.num_samples=1",
]  # fmt: skip
HANG_SECONDS = 240
HELD = ("DependencyNeverSatisfied", "JobHeldUser", "JobHeldAdmin")
"""Reasons of jobs that nothing starts any more; root holds as an administrator."""
PROFILE = Path(__file__).parents[2] / "configs" / "cluster" / "devcluster.yaml"
SLURM_SETTINGS = ["slurm.train.tasks_per_node=1", "slurm.train.nodes=1"]


class Machine(Protocol):
    """How a run is launched and looked at."""

    stage_seconds: float
    """What a stage takes, about: how long faults are waited for."""

    def first(self, run: Path) -> None:
        """Make the undisturbed run."""
        ...

    def start(self, run: Path) -> Any:
        """Give the command."""
        ...

    def finish(self, process: Any) -> tuple[int | None, str]:
        """Exit code and output once nothing of the launch is at work; no code where that never was."""
        ...

    def status(self, run: Path, *more: str) -> tuple[int, str]:
        """Exit code and output of the status command."""
        ...

    def processes(self, run: Path) -> list[int]:
        """Launchers and tasks of a run that are alive."""
        ...

    def clear(self, run: Path) -> None:
        """Nothing goes on after a case."""
        ...


class ForkedMachine:
    """Local runs as forks of this process, which imports what they need after the first of them."""

    stage_seconds = 0.8

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: dict[str, int] = {}
        """Of each process of the undisturbed run, in the order of their ends: its calls that write."""

    def first(self, run: Path) -> None:
        process = self.start(run)
        code, output = self.finish(process)
        if code:
            sys.exit(output)
        notes = self._notes(run)
        for line in (notes / "calls").read_text().splitlines():
            name, calls = line.split()
            self.calls[name] = int(calls)
        forked.import_everything(sorted(set((notes / "modules").read_text().split())))

    def _notes(self, run: Path) -> Path:
        return run.parent / "notes"

    def start(
        self, run: Path, strike: Strike | None = None, clock_seconds: float = 0.0
    ) -> tuple[Forked, Path]:
        notes = self._notes(run)
        notes.mkdir(exist_ok=True)
        output = notes / f"output-{time.monotonic_ns()}"
        arguments = ["--cluster=local", "--run-dir", str(run), *SETTINGS]
        return forked.start(arguments, notes, output, strike, clock_seconds), output

    def finish(self, process: tuple[Forked, Path]) -> tuple[int | None, str]:
        launched, output = process
        try:
            code: int | None = launched.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        return code, output.read_text(errors="replace")

    def status(self, run: Path, *more: str) -> tuple[int, str]:
        return forked.run(lambda: status.main([str(run), *more]), self._notes(run) / "status")

    def processes(self, run: Path) -> list[int]:
        file = self._notes(run) / "pids"
        pids = map(int, file.read_text().split()) if file.exists() else ()
        return [pid for pid in pids if _alive(pid)]

    def clear(self, run: Path) -> None:
        for pid in self.processes(run):
            os.kill(pid, 9)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class SlurmMachine:
    """Runs on the cluster that SLURM_CONF of this shell names; nothing else may use it meanwhile."""

    stage_seconds = 4.0

    def first(self, run: Path) -> None:
        code, output = self.finish(self.start(run))
        whole, told = self.status(run)
        if code or whole:
            sys.exit(f"{output}\n{told}")

    def start(self, run: Path) -> subprocess.Popen[str]:
        options = ["--cluster=slurm", "--profile", str(PROFILE), "--run-dir", str(run)]
        return subprocess.Popen(
            [sys.executable, "-m", "lt_hpc.launch", *options, *SETTINGS, *SLURM_SETTINGS],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def finish(self, process: subprocess.Popen[str]) -> tuple[int | None, str]:
        output, _ = process.communicate()
        deadline = time.monotonic() + HANG_SECONDS
        while self._moving():
            if time.monotonic() > deadline:
                return None, output + self.tell("squeue", "--all")
            time.sleep(0.5)
        return process.returncode, output

    def _moving(self) -> bool:
        """Whether a job runs or may still start by itself; one that waits its delay after a requeue is
        told to start."""
        moving = False
        for line in self.tell("squeue", "-h", "-r", "-o", "%i|%T|%r").splitlines():
            job, state, reason = line.split("|")
            if reason == "BeginTime":
                self.tell("scontrol", "update", f"JobId={job}", "StartTime=now")
            moving |= state != "PENDING" or reason not in HELD
        return moving

    def tell(self, *command: str) -> str:
        """Output of a command to Slurm, errors too: a job may just have ended."""
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        ).stdout

    def preempt(self) -> str:
        """All nodes are taken away for a moment by a job of the high partition."""
        options = ["--partition=high", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"]
        return self.tell("sbatch", *options)

    def jobs(self) -> list[str]:
        return self.tell("squeue", "-h", "-r", "-o", "%i").split()

    def status(self, run: Path, *more: str) -> tuple[int, str]:
        result = subprocess.run(
            [sys.executable, "-m", "lt_hpc.status", str(run), *more],
            capture_output=True,
            text=True,
            check=False,
        )
        return result.returncode, result.stdout + result.stderr

    def processes(self, run: Path) -> list[int]:
        found = subprocess.run(["pgrep", "-f", str(run)], capture_output=True, text=True, check=False).stdout
        return [int(pid) for pid in found.split() if int(pid) != os.getpid()]

    def clear(self, run: Path) -> None:
        jobs = self.jobs()
        if jobs:
            self.tell("scancel", *jobs)
        while self.jobs():
            time.sleep(0.3)
