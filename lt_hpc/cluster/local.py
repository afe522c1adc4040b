"""The back-end for one machine: stages as plain processes, as many at a time as configured.

It runs the same stage tasks that a cluster runs. A task that is killed with its launcher
leaves finished work behind, and the next launch goes on from there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lt_hpc.cluster import state
from lt_hpc.cluster.plan import Plan, Stage
from lt_hpc.errors import IncompleteError, Interrupted, StageError
from lt_hpc.store.atomic import append_line
from lt_hpc.store.paths import RunPaths

POLL_SECONDS = 0.1
GRACE_SECONDS = 120
MAX_RESAMPLES = 2
LOG_TAIL_LINES = 15


class Watcher(Protocol):
    """Who is told what happens (a progress display)."""

    def started(self, stage: Stage, tasks: int) -> None: ...
    def ended(self, stage: Stage, seconds: float) -> None: ...
    def poll(self) -> None: ...


@dataclass
class _Run:
    """One attempt at a stage: its tasks, waiting and running."""

    stage: Stage
    tasks: int
    shards: list[int]
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    waiting: list[int] = field(default_factory=list)
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)


class LocalCluster:
    """Runs the pending stages of a plan to their end."""

    def __init__(self, plan: Plan, paths: RunPaths, watcher: Watcher) -> None:
        self.plan, self.paths, self.watcher = plan, paths, watcher
        self.slots = plan.config.local.processes
        self.runs: dict[str, _Run] = {}
        self.resamples: dict[str, int] = {}
        self.todo = state.pending(paths, plan)

    def run(self) -> None:
        """Run everything that is pending.

        Raises:
            StageError: a stage failed; the message has the end of its log.
            Interrupted: on Ctrl-C or SIGTERM, after the tasks have saved their work.
        """
        try:
            while self.todo:
                self._start_ready()
                self._reap()
                self.watcher.poll()
                time.sleep(POLL_SECONDS)
        except BaseException as error:
            self._stop_all()
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted("stopped; the same command goes on from here") from error
            raise

    def _free(self) -> int:
        return self.slots - sum(len(run.running) for run in self.runs.values())

    def _start_ready(self) -> None:
        waiting = {stage.key for stage in self.todo}
        for stage in self.todo:
            if stage.key not in self.runs and not waiting.intersection(stage.needs):
                tasks, shards = self._num_tasks(stage)
                self.runs[stage.key] = _Run(stage, tasks, shards, waiting=list(range(tasks)))
                self.watcher.started(stage, tasks)
        for run in self.runs.values():
            # Ranks wait for each other, so they start together or not at all.
            gang = run.stage.name == "train"
            if gang and run.waiting and self._free() < min(run.tasks, self.slots):
                continue
            while run.waiting and (gang or self._free() > 0):
                self._start(run, run.waiting.pop(0))

    def _num_tasks(self, stage: Stage) -> tuple[int, list[int]]:
        """Tasks of a stage, and the shards that they share."""
        local = self.plan.config.local
        if stage.name == "train":
            return local.train_ranks, []
        if stage.name == "sample":
            missing = state.missing_shards(self.paths, self.plan, stage)
            return min(local.processes, len(missing)), missing
        return 1, []

    def _start(self, run: _Run, task: int) -> None:
        name = f"{run.stage.key}.{task}"
        log = self.paths.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.paths.progress(name).unlink(missing_ok=True)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(self.plan.config.local.threads),
            "LT_ATTEMPT": run.attempt,
            "LT_PARENT": str(os.getpid()),
        }
        command = [
            sys.executable, "-m", "lt_hpc.stages", str(self.paths.root), self.plan.fingerprint, run.stage.key,
            "--task", str(task), "--tasks", str(run.tasks),
        ]  # fmt: skip
        if run.shards:
            command += ["--shards", ",".join(map(str, run.shards[task :: run.tasks]))]
        with log.open("ab") as stream:
            # A session of its own: Ctrl-C reaches the launcher, which tells its tasks once.
            process = subprocess.Popen(
                command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, env=environment,
                start_new_session=True,
            )  # fmt: skip
        run.running[task] = process
        self._record("started", name, pid=process.pid)

    def _record(self, event: str, task: str, **more: int) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        append_line(self.paths.jobs, {"time": now, "event": event, "task": task, "cluster": "local", **more})

    def _reap(self) -> None:
        for run in list(self.runs.values()):
            for task, process in list(run.running.items()):
                code = process.poll()
                if code is None:
                    continue
                del run.running[task]
                run.codes.append(code)
                self._record("ended", f"{run.stage.key}.{task}", code=code)
                if code != 0:
                    self._failed(run, task, code)
                    return
            if not run.running and not run.waiting:
                self._ended(run)

    def _ended(self, run: _Run) -> None:
        found = state.problem(self.paths, run.stage)
        if found is not None:
            raise StageError(f"{run.stage.key} ended without its output: {found}")
        del self.runs[run.stage.key]
        self.todo = [stage for stage in self.todo if stage.key != run.stage.key]
        self.watcher.ended(run.stage, time.monotonic() - run.started)

    def _failed(self, run: _Run, task: int, code: int) -> None:
        key = run.stage.key
        if code == IncompleteError.exit_code and run.stage.name == "merge":
            # A shard went bad after it was sampled: sample what is missing again, then merge.
            sample = self.plan.stage(run.stage.needs[0])
            self.resamples[key] = self.resamples.get(key, 0) + 1
            if self.resamples[key] <= MAX_RESAMPLES:
                del self.runs[key]
                self.todo.insert(self.todo.index(run.stage), sample)
                return
        log = self.paths.log(f"{key}.{task}")
        raise StageError(f"{key} failed with exit code {code}; the end of {log}:\n{_tail(log)}")

    def _stop_all(self) -> None:
        """Ask every task to save and leave; kill what has not after the grace time."""
        processes = [p for run in self.runs.values() for p in run.running.values()]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])
