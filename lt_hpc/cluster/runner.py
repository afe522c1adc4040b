"""Runs the pending stages of a plan here and now, each task as a child process.

Which processes those are is a `Tasks`: plain ones on one machine (local.py), srun steps
inside an allocation (allocation.py). A task that is killed with the runner leaves finished
work behind, and the next launch goes on from there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lt_hpc.errors import IncompleteError, Interrupted, StageError
from lt_hpc.run import state
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.atomic import append_line
from lt_hpc.store.paths import RunPaths

POLL_SECONDS = 0.1
MAX_RESAMPLES = 2
LOG_TAIL_LINES = 15


class Watcher(Protocol):
    """Who is told what happens (a progress display)."""

    def started(self, stage: Stage, tasks: int) -> None: ...
    def ended(self, stage: Stage, seconds: float) -> None: ...
    def poll(self) -> None: ...


class Tasks(Protocol):
    """How the tasks of a stage become processes."""

    slots: int
    """Processes that may run at the same time."""
    grace_seconds: float
    """How long they may take to save their work when they have to stop."""

    def split(self, stage: Stage) -> tuple[int, list[int]]:
        """Processes of a stage, and the shards that they share."""
        ...

    def gang(self, stage: Stage) -> bool:
        """Whether its processes wait for each other, and so have to start together."""
        ...

    def command(self, run: Run, process: int) -> list[str]:
        """The command of one of the processes."""
        ...

    def environment(self, run: Run, slots: Sequence[int]) -> dict[str, str]:
        """What is added to the environment of a process that holds these slots; together a stage's
        processes hold the same."""
        ...


@dataclass
class Run:
    """One attempt at a stage: its tasks, waiting and running."""

    stage: Stage
    tasks: int
    shards: list[int]
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    waiting: list[int] = field(default_factory=list)
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    slots: dict[int, Sequence[int]] = field(default_factory=dict)  # of each that is running
    codes: list[int] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)


class Runner:
    """Runs the pending stages of a plan to their end."""

    def __init__(self, plan: Plan, paths: RunPaths, tasks: Tasks, watcher: Watcher) -> None:
        self.plan, self.paths, self.tasks, self.watcher = plan, paths, tasks, watcher
        self.runs: dict[str, Run] = {}
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

    def _free(self) -> list[int]:
        held = {slot for run in self.runs.values() for slots in run.slots.values() for slot in slots}
        return [slot for slot in range(self.tasks.slots) if slot not in held]

    def _start_ready(self) -> None:
        waiting = {stage.key for stage in self.todo}
        for stage in self.todo:
            if stage.key not in self.runs and not waiting.intersection(stage.needs):
                tasks, shards = self.tasks.split(stage)
                self.runs[stage.key] = Run(stage, tasks, shards, waiting=list(range(tasks)))
                for report in self.paths.reports(stage.key):
                    report.unlink(missing_ok=True)
                self.watcher.started(stage, tasks)
        for run in self.runs.values():
            free = self._free()
            if not self.tasks.gang(run.stage):
                for slot in free[: len(run.waiting)]:
                    self._start(run, run.waiting.pop(0), [slot])
            elif len(free) >= min(run.tasks, self.tasks.slots):
                while run.waiting:
                    self._start(run, run.waiting.pop(0), free[: run.tasks])

    def _start(self, run: Run, task: int, slots: Sequence[int]) -> None:
        name = f"{run.stage.key}.{task}"
        log = self.paths.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self.tasks.environment(run, slots)}
        command = self.tasks.command(run, task)
        with log.open("ab") as stream:
            # A session of its own: Ctrl-C reaches the launcher, which tells its tasks once.
            process = subprocess.Popen(
                command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, env=environment,
                start_new_session=True,
            )  # fmt: skip
        run.running[task], run.slots[task] = process, slots
        self._record("started", name, pid=process.pid)

    def _record(self, event: str, task: str, **more: int) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        append_line(self.paths.jobs, {"time": now, "event": event, "task": task, **more})

    def _reap(self) -> None:
        for run in list(self.runs.values()):
            for task, process in list(run.running.items()):
                code = process.poll()
                if code is None:
                    continue
                del run.running[task], run.slots[task]
                run.codes.append(code)
                self._record("ended", f"{run.stage.key}.{task}", code=code)
                if code != 0:
                    self._failed(run, task, code)
                    return
            if not run.running and not run.waiting:
                self._ended(run)

    def _ended(self, run: Run) -> None:
        found = state.problem(self.paths, run.stage)
        if found is not None:
            raise StageError(f"{run.stage.key} ended without its output: {found}")
        del self.runs[run.stage.key]
        self.todo = [stage for stage in self.todo if stage.key != run.stage.key]
        self.watcher.ended(run.stage, time.monotonic() - run.started)

    def _failed(self, run: Run, task: int, code: int) -> None:
        key = run.stage.key
        if code == Interrupted.exit_code:  # a signal reached the task alone
            raise Interrupted(f"{key} was stopped; the same command goes on from here")
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
        """Ask every task to save and leave; kill what has not after the grace time. Further signals
        but Ctrl-C change nothing: a time limit's comes after its warning."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        running = {
            f"{run.stage.key}.{task}": process
            for run in self.runs.values()
            for task, process in run.running.items()
        }
        for process in running.values():
            process.send_signal(signal.SIGUSR2)  # srun hands it on; it would act on TERM itself
        deadline = time.monotonic() + self.tasks.grace_seconds
        for name, process in running.items():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._record("ended", name, code=process.returncode)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])
