"""A scheduler whose queue is the launcher itself: each task is a child process.

How a task becomes a process is a `Launcher`: a plain one on this machine (local.py), or an srun
step inside an allocation (slurm/steps.py). A task that is killed with the launcher leaves finished
work behind, and the next launch resumes from there.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lt_hpc.cluster.place import Place
from lt_hpc.cluster.scheduler import Gone, Limits, Notice, Queued, Tasks
from lt_hpc.errors import ConfigError, IncompleteError, Interrupted, StageError
from lt_hpc.run import events, progress, state
from lt_hpc.run.events import Ended, Started
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths

POLL_SECONDS = 0.1
LOG_TAIL_LINES = 15


class Watcher(Protocol):
    """Who is shown what happens (a progress display)."""

    def started(self, stage: Stage, tasks: int) -> None: ...
    def ended(self, stage: Stage, seconds: float) -> None: ...
    def poll(self) -> None: ...


class Launcher(Protocol):
    """How the tasks of a stage become processes."""

    name: str
    lock_seconds: float
    own_job: str
    slots: int
    """Processes that may run at the same time."""
    grace_seconds: float
    """How long they may take to save their work when they have to stop."""

    def ranks(self, plan: Plan) -> int:
        """Processes of a training stage."""
        ...

    def command(self, plan: Plan, stage: Stage, shards: Sequence[int]) -> list[str]:
        """The command of a process, without its shards and its name."""
        ...

    def environment(self, plan: Plan, place: Place, slots: Sequence[int]) -> dict[str, str]:
        """What is added to the environment of a process that holds these slots; the ranks of a
        stage hold the same ones."""
        ...

    def notice(self, plan: Plan) -> Notice:
        """See `scheduler.Scheduler.notice`."""
        ...

    def requeue(self, job: str) -> bool:
        """See `scheduler.Scheduler.requeue`."""
        ...


@dataclass
class _Job:
    """A submitted stage: its tasks, waiting and running."""

    plan: Plan
    stage: Stage
    name: str
    after: set[str]
    shards: list[Sequence[int]]  # of each task
    waiting: list[int]
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    slots: dict[int, Sequence[int]] = field(default_factory=dict)  # of each task that is running
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    started: float | None = None


class Processes:
    """See `scheduler.Scheduler`. `heal` is called with a stage that found shards of its input
    missing, and its job: it submits what makes them again, or returns False where nothing can."""

    outlives_launch = False

    def __init__(
        self, paths: RunPaths, launcher: Launcher, watcher: Watcher, heal: Callable[[Plan, Stage, str], bool]
    ) -> None:
        self.paths, self.launcher, self.watcher, self.heal = paths, launcher, watcher, heal
        self.name, self.lock_seconds, self.own_job = launcher.name, launcher.lock_seconds, launcher.own_job
        self.jobs: dict[str, _Job] = {}
        self.ids = itertools.count(1)

    def queue(self) -> list[Queued]:
        return [
            Queued(number, task if job.stage.kind.sharded else None, job.name, state, state == "PENDING")
            for number, job in self.jobs.items()
            for tasks, state in ((job.waiting, "PENDING"), (job.running, "RUNNING"))
            for task in tasks
        ]

    def gone(self, jobs: Collection[str]) -> list[Gone]:
        return []  # whatever ends a process is an error of the launch

    def submit(
        self,
        plan: Plan,
        stage: Stage,
        name: str,
        tasks: Tasks,
        after: Collection[str],
        without: Sequence[str] = (),
    ) -> list[str]:
        number = str(next(self.ids))
        count = self.launcher.ranks(plan) if stage.kind.ranked else 1
        shards: list[Sequence[int]] = list(tasks) or [()] * count
        self.jobs[number] = _Job(plan, stage, name, set(after), shards, list(range(len(shards))))
        return [number]

    def spared(self, plan: Plan, stages: Sequence[Stage], nodes: Sequence[str]) -> dict[str, list[str]]:
        return {}  # what it has, it has

    def avoid(self, jobs: Collection[str], nodes: Sequence[str]) -> None:
        return

    def delay(self, job: str, after: Collection[str]) -> None:
        self.jobs[job].after = set(after)

    def cancel(self, jobs: Collection[str]) -> None:
        for number in {job.partition("_")[0] for job in jobs} & set(self.jobs):
            self._stop([self.jobs[number]])
            del self.jobs[number]

    def requeue(self, job: str) -> bool:
        return self.launcher.requeue(job)

    def taken_away(self, plan: Plan, stage: Stage, job: str) -> bool:
        return False

    def limits(self, plan: Plan, stages: Sequence[Stage], queued: int) -> dict[str, Limits]:
        return {stage.key: Limits(tasks=self.launcher.slots) for stage in stages}

    def notice(self, plan: Plan) -> Notice:
        return self.launcher.notice(plan)

    def wait(self) -> None:
        try:
            while self.jobs:
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
        held = {slot for job in self.jobs.values() for slots in job.slots.values() for slot in slots}
        return [slot for slot in range(self.launcher.slots) if slot not in held]

    def _start_ready(self) -> None:
        for job in self.jobs.values():
            if not job.waiting or job.after & set(self.jobs):
                continue
            if job.started is None:
                job.started = time.monotonic()
                progress.clear(self.paths, job.stage)
                self.watcher.started(job.stage, len(job.shards))
            free = self._free()
            if not job.stage.kind.ranked:
                for slot in free[: len(job.waiting)]:
                    self._start(job, job.waiting.pop(0), [slot])
            elif len(free) >= min(len(job.shards), self.launcher.slots):  # ranks start together
                while job.waiting:
                    self._start(job, job.waiting.pop(0), free[: len(job.shards)])

    def _start(self, job: _Job, task: int, slots: Sequence[int]) -> None:
        ranked = job.stage.kind.ranked
        place = Place(
            rank=task if ranked else 0,
            count=len(job.shards) if ranked else 1,
            local_rank=task if ranked else 0,
            attempt=job.attempt,
            parent=os.getpid(),
        )
        environment = {**os.environ, **self.launcher.environment(job.plan, place, slots)}
        command = self.launcher.command(job.plan, job.stage, job.shards[task])
        if job.shards[task]:
            command += ["--name", str(task), "--shards", ",".join(map(str, job.shards[task]))]
        name = f"{job.stage.key}.{task}"
        log = self.paths.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            # A session of its own: Ctrl-C reaches the launcher, which tells its tasks once.
            process = subprocess.Popen(
                command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, env=environment,
                start_new_session=True,
            )  # fmt: skip
        job.running[task], job.slots[task] = process, slots
        events.record(self.paths, Started(task=name, pid=process.pid, stage=job.stage.key))

    def _reap(self) -> None:
        for number, job in list(self.jobs.items()):
            for task, process in list(job.running.items()):
                code = process.poll()
                if code is None:
                    continue
                self._record_end(job, task, code)
                del job.running[task], job.slots[task]
                if code != 0:
                    self._failed(number, job, task, code)
                    return
            if not job.running and not job.waiting:
                self._ended(number, job)

    def _record_end(self, job: _Job, task: int, code: int) -> None:
        name = f"{job.stage.key}.{task}"
        rank = task if job.stage.kind.ranked else 0
        cause = "" if code in (0, Interrupted.exit_code) else f"{_cause(self.paths.log(name))} ({name})"
        setup, saved = progress.pace(self.paths.progress(name))
        ended = Ended(
            stage=job.stage.key, task=name, code=code, cause=cause, rank=rank, setup=setup, saved=saved
        )
        events.record(self.paths, ended)

    def _ended(self, number: str, job: _Job) -> None:
        found = state.problem(self.paths, job.stage)
        if found is not None:
            raise StageError(f"{job.stage.key} ended without its output: {found}")
        del self.jobs[number]
        assert job.started is not None
        self.watcher.ended(job.stage, time.monotonic() - job.started)

    def _failed(self, number: str, job: _Job, task: int, code: int) -> None:
        key = job.stage.key
        if code == Interrupted.exit_code:  # a signal reached the task alone
            raise Interrupted(f"{key} was stopped; the same command goes on from here")
        missing = code == IncompleteError.exit_code and job.stage.kind.repairs is not None
        if missing and self.heal(job.plan, job.stage, number):
            del self.jobs[number]
            return
        log = self.paths.log(f"{key}.{task}")
        if code == ConfigError.exit_code:  # a setting or a source, in one line
            raise ConfigError(f"{key}: {_cause(log)} ({log})")
        raise StageError(f"{key} failed with exit code {code}; the end of {log}:\n{_tail(log)}")

    def _stop_all(self) -> None:
        """Stop every task. Further signals but Ctrl-C change nothing: a time limit's comes after its
        warning."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        self._stop(list(self.jobs.values()))

    def _stop(self, jobs: Sequence[_Job]) -> None:
        """Ask tasks to save and leave; kill what has not after the grace time."""
        running = [(job, task, process) for job in jobs for task, process in job.running.items()]
        for _, _, process in running:
            process.send_signal(signal.SIGUSR2)  # srun hands it on; it would act on TERM itself
        deadline = time.monotonic() + self.launcher.grace_seconds
        for job, task, process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._record_end(job, task, process.returncode)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])


def _cause(log: Path) -> str:
    """The last line of a task's log, which says why it ended."""
    lines = _tail(log).splitlines()
    return re.sub(r"^\W*(exit code \d+: )?", "", lines[-1]) if lines else "no log"
