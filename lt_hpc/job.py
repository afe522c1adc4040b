"""What a Slurm job runs: one task of a stage, then whatever its ending asks for.

Submitted by reference with plain strings, so that nothing of the launcher's memory travels.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lt_hpc.cluster import lock, schedulers
from lt_hpc.cluster.heal import Loss, heal, plan_to_heal, resubmit_lost
from lt_hpc.cluster.names import run_id
from lt_hpc.cluster.place import Place
from lt_hpc.cluster.reconcile import cancel_stranded
from lt_hpc.cluster.scheduler import Gone
from lt_hpc.cluster.signals import Supervisor, fail
from lt_hpc.cluster.slurm.scheduler import Slurm
from lt_hpc.errors import HardwareError, IncompleteError, Interrupted, LtError, StageError
from lt_hpc.run import events, state
from lt_hpc.run.events import Ended, Started
from lt_hpc.store.paths import RunPaths

if TYPE_CHECKING:
    from lt_hpc.stages.task import Task

REQUEUE_WAIT_SECONDS = 120
HEAL_LOCK_SECONDS = 600
"""How long a healing stage waits for the run's lock."""
LOOK_LOCK_SECONDS = 20
"""The same of a job that has what it came for, or is being ended."""
POLL_SECONDS = 0.5
STARTED = time.monotonic()


def run(arguments: list[str]) -> None:
    """Run `python -m lt_hpc.stages ARGUMENTS` as this Slurm task; exits with its code.

    On a stop signal the task saves its work and requeues its job before it exits. If saving outlasts
    the notice, the job is requeued anyway and unsaved work is lost. A merge with missing shards
    has them sampled again before it fails.
    """
    supervisor = Supervisor()  # before any slow import: submitit's own handlers would end the task
    place = schedulers.here(os.environ)
    try:
        job = Job(arguments, supervisor, place)
    except LtError as error:  # its plan is of another version
        _record(RunPaths(Path(arguments[0])), arguments[2], place, error.exit_code, str(error))
        sys.exit(f"exit code {error.exit_code}: {error}")
    if job.first:
        with contextlib.suppress(OSError):  # for people; a full disk is told by the work itself
            events.record(job.paths, job.started())
        threading.Thread(target=job.leave_in_time, daemon=True).start()
    from lt_hpc.stages.__main__ import run_task

    ending = run_task(supervisor, place, arguments, job.tasks.append)
    job.leave(ending.code, ending.cause)


def margin(notice: float) -> float:
    """Seconds of the notice that are kept to ask the controller, which may have to be asked again."""
    return min(30.0, max(5.0, notice / 4))


class Job:
    """How this task of a job leaves it: once, by its own end or because time is up."""

    def __init__(self, arguments: list[str], supervisor: Supervisor, place: Place) -> None:
        root, plan_name, key = arguments[:3]
        self.paths, self.supervisor, self.place = RunPaths(Path(root)), supervisor, place
        self.plan = state.read_plan(self.paths.plan(plan_name))
        self.stage = self.plan.stage(key)
        # Ranks of a training end together, and the first speaks for all. Tasks that share shards do not:
        # whichever has to stop requeues the job for all.
        self.first = place.rank == 0 or self.stage.kind.sharded
        self.tasks: list[Task] = []  # this one, once it starts
        self.leaving = threading.Lock()
        self.left_at = 0.0  # when that was, on the monotonic clock
        self.resubmitting = threading.Lock()
        self.resubmitted = ""  # what came of it, once it was tried
        self.scheduler = Slurm(self.paths, run)

    def started(self) -> Started:
        """That this task, which speaks for its job or for shards of its own, is about to begin."""
        place = self.place
        return Started(
            task=f"{self.stage.key}.{place.rank}", pid=os.getpid(), stage=self.stage.key,
            job=place.job, restart=place.restart, node=place.node, rank=place.rank,
        )  # fmt: skip

    def leave(self, code: int, cause: str) -> None:
        """Do what the ending asks for, and exit."""
        if not self.leaving.acquire(blocking=False):
            threading.Event().wait()  # the other thread is ending this process
        self.left_at = time.monotonic()
        kind, requeued = self.stage.kind, True
        if self.first and code == Interrupted.exit_code:
            code, requeued, more = self.requeue()
            cause += f"; {more}"
        # What comes of ranks that were lost is seen after all of them have ended: crash.py.
        if self.first and code not in (0, Interrupted.exit_code, HardwareError.exit_code):
            code, cause = self._after_failure(code, cause)
        elif code == 0:
            if self.first and not kind.sharded:
                self._look_after_others()
            if kind.reports:
                self._report()
        # Another rank that fails first takes rank 0 with it: it records the cause itself.
        if self.first or code not in (0, Interrupted.exit_code):
            self._record(code, cause)
        if code == Interrupted.exit_code and requeued:
            time.sleep(REQUEUE_WAIT_SECONDS)  # the requeue ends this process; other ranks wait for it
        if code:
            fail(code, cause)

    def leave_in_time(self) -> None:
        """Requeue the job when the task is still at work shortly before its notice ends."""
        while not self.supervisor.stop_requested():
            time.sleep(POLL_SECONDS)
        self._resubmit_if_taken_away()
        notice = self.plan.config.slurm.signal_seconds
        time.sleep(max(0.0, notice - margin(notice)))
        if not self.leaving.acquire(blocking=False):
            return
        self.left_at = time.monotonic()
        code, requeued, more = self.requeue()
        cause = f"not at a place to stop after {notice} s, what was not saved is lost; {more}"
        self._record(code, cause)
        if requeued:
            time.sleep(REQUEUE_WAIT_SECONDS)
        fail(code, cause)

    def requeue(self) -> tuple[int, bool, str]:
        """Put this job back into the queue: (exit code, whether it was done, a few words on it)."""
        if self.would_loop():
            name = self.stage.name
            blocks = f" or lower {self.stage.kind.blocks}" if self.stage.kind.blocks else ""
            advice = f"out of time with nothing done: raise slurm.{name}.minutes{blocks}"
            return StageError.exit_code, False, advice
        try:
            done = self.scheduler.requeue(self.place.job)
        except StageError as error:
            return Interrupted.exit_code, False, f"not requeued, launch again goes on: {error}"
        if done:
            return Interrupted.exit_code, True, "requeued"
        said = self._resubmit_if_taken_away() or "cancelled, or requeued by Slurm"
        return Interrupted.exit_code, False, said

    def _resubmit_if_taken_away(self) -> str:
        """Submit this stage again where the cluster ends its job for good: nobody else may be left to do it.
        Of jobs with shards the stage after them does. Returns what came of it; empty: it is not so."""
        if self.stage.kind.sharded:
            return ""
        with self.resubmitting:
            try:
                job = self.place.job
                if not self.resubmitted and self.scheduler.taken_away(self.plan, self.stage, job):
                    self.resubmitted = self._resubmit_own()
            except LtError as error:
                self.resubmitted = f"taken away, and not submitted again: {error}"
            return self.resubmitted

    def _resubmit_own(self) -> str:
        job = Gone(self.place.job, None, "", "PREEMPTED", again=True)
        with lock.hold(self.paths, LOOK_LOCK_SECONDS):
            plan = plan_to_heal(self.plan, state.last_plan(self.paths), self.stage.key)
            if plan is None:
                return "taken away; launched again with other settings, it is not missed"
            own = Loss(plan.stage(self.stage.key), (job,))
            outcome = resubmit_lost(plan, self.paths, self.scheduler, job.job, own)
        print("\n".join(outcome.lines if outcome else []), flush=True)
        return "taken away, submitted again"

    def _look_after_others(self) -> None:
        """Submit again what the cluster took from other stages: some have none after them to miss them. A
        failure is printed, and takes nothing from this stage."""
        try:
            with lock.hold(self.paths, LOOK_LOCK_SECONDS):
                plan = plan_to_heal(self.plan, state.last_plan(self.paths), self.stage.key)
                outcome = plan and resubmit_lost(plan, self.paths, self.scheduler, self.place.job)
        except LtError as error:
            print(f"warning: other stages were not looked after: {error}", file=sys.stderr, flush=True)
            return
        if outcome:
            print("\n".join(outcome.lines), flush=True)

    def would_loop(self) -> bool:
        """True if the job used its whole time limit and completed nothing, so that requeueing it
        would loop forever."""
        settings = self.plan.config.slurm
        limit = 60 * settings.job(self.stage.name).minutes
        all_its_time = max(limit / 2, limit - 2 * settings.signal_seconds)
        if time.monotonic() - STARTED < all_its_time:
            return False
        return not self.stage.kind.resumes or not any(task.progress.kept for task in self.tasks)

    def _after_failure(self, code: int, cause: str) -> tuple[int, str]:
        """Have missing shards made again, or, where that can't help, cancel what waits for this stage;
        the exit code and the cause that come of it."""
        try:
            with lock.hold(self.paths, HEAL_LOCK_SECONDS):
                if code == IncompleteError.exit_code:
                    try:
                        if self._heal():
                            return code, cause
                    except LtError as error:
                        code, cause = error.exit_code, f"{cause}; {error}"
                stranded = cancel_stranded(self.plan, self.paths, self.scheduler, self.stage, self.place.job)
        except LtError as error:
            return code, f"{cause}; {error}"
        return code, f"{cause}; cancelled what waits for it: {', '.join(stranded)}" if stranded else cause

    def _heal(self) -> bool:
        """Have what is missing made again, unless a later launch has other settings for this stage; False
        where nothing says that it would help. The caller holds the lock."""
        plan = plan_to_heal(self.plan, state.last_plan(self.paths), self.stage.key)
        if plan is None:
            print(f"{self.stage.key}: launched again with other settings, its shards are not missed")
            return True
        stage, job = plan.stage(self.stage.key), self.place.job
        outcome = resubmit_lost(plan, self.paths, self.scheduler, job)
        if outcome is None and stage.kind.repairs is not None:
            outcome = heal(plan, self.paths, self.scheduler, stage, job)
        if outcome is not None:
            print("\n".join(outcome.lines), flush=True)
        return outcome is not None

    def _report(self) -> None:
        """Bring the run's report and trackers up to date: no launcher waits for a chain. A failure of
        either is printed, and takes nothing from the stage."""
        from lt_hpc.report import curves, output

        plan = state.last_plan(self.paths)
        try:
            report = output.write(plan, self.paths)
        except Exception as error:
            print(f"warning: no report: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        else:
            curves.send(plan, self.paths, report, run_id(self.paths))

    def _record(self, code: int, cause: str) -> None:
        left = time.monotonic() - self.left_at
        task = self.tasks[0] if self.tasks else None
        _record(self.paths, self.stage.key, self.place, code, cause, task, left)


def _record(
    paths: RunPaths,
    stage: str,
    place: Place,
    code: int,
    cause: str,
    task: Task | None = None,
    left: float | None = None,
) -> None:
    ended = Ended(
        stage=stage,
        code=code,
        cause=cause if code else "",
        job=place.job,
        restart=place.restart,
        node=place.node,
        rank=place.rank,
        setup=task.progress.setup if task else None,
        saved=task.progress.saved if task else None,
        units=task.progress.units if task else 0,
        left=left,
    )
    events.record(paths, ended)
