"""What happens to jobs on a cluster, done to a running chain."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

from tests.runs.small_run import events
from tests.slurm.conftest import Cluster


class Disturber:
    """Does to a running chain what clusters do."""

    def __init__(self, cluster: Cluster, run: Path) -> None:
        self.cluster, self.run = cluster, run
        self.done: list[str] = []

    def running(self, stage: str) -> list[str]:
        """Ids of the running jobs of a stage."""
        submissions = {e["submission"]: e["stage"] for e in events(self.run) if e["event"] == "submit"}
        return [
            job
            for job, name, state, _ in self.cluster.queue()
            if state == "RUNNING" and submissions.get(name.rsplit("-", 1)[-1]) == stage
        ]

    def await_running(self, stage: str, at_least: int = 0) -> list[str]:
        """Wait until a stage runs and has reported that much progress."""

        def reached() -> bool:
            reports = (self.run / "progress").glob(f"{stage}.*.json")
            done = max((json.loads(path.read_text())["done"] for path in reports), default=0)
            return bool(self.running(stage)) and done >= at_least

        self.cluster.wait(reached, f"{stage} running with progress {at_least}")
        return self.running(stage)

    def preempt(self, stage: str) -> None:
        """Take all nodes away with a job of the high partition, for a moment."""
        victims = self.running(stage)
        job = self.cluster.run(
            "sbatch", "--parsable", "--partition=high", "--nodes=4", "--exclusive", "--output=/dev/null",
            "--wrap=sleep 2",
        ).strip()  # fmt: skip
        self.cluster.wait(lambda: job not in {entry[0] for entry in self.cluster.queue()}, "the high job")
        self.done.append(f"preempted {stage} ({', '.join(victims) or 'nothing running'})")

    def freeze(self, stage: str, files: str) -> None:
        """Stop all processes of a running stage as soon as a file of the run matches: it is in the middle
        of its work, until a preemption lets it go on to be stopped. Nothing happens where it is faster."""
        self.cluster.wait(lambda: bool(self.running(stage)), f"{stage} running")
        while not any(self.run.glob(files)) or not (tasks := self.tasks()):
            if not self.running(stage):
                return
        for process in tasks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)

    def tasks(self) -> list[int]:
        """The processes of the run's jobs that compute."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_text()
                if "submitit" in command and str(self.run) in command:
                    found.append(int(folder.name))
        return found

    def abort_one(self) -> None:
        """Have one of the processes that were stopped abort, as NCCL does it; the others go on."""
        first, *others = self.tasks()
        os.kill(first, signal.SIGABRT)
        for process in (first, *others):
            # A signal that ends a stopped process may do so before it goes on, and the job with it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    def restarts(self, stage: str) -> int:
        """The largest restart count a job of the stage ended with."""
        ended = [e for e in events(self.run) if e["event"] == "ended" and e["stage"] == stage]
        return max((int(str(e["restart"])) for e in ended), default=0)
