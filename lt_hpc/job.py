"""What a Slurm job runs: one task of a stage, then whatever its ending asks for.

Submitted by reference with plain strings, so that nothing of the launcher's memory travels.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from lt_hpc.cluster.signals import Supervisor
from lt_hpc.cluster.slurm import client
from lt_hpc.errors import IncompleteError, Interrupted, LtError, StageError
from lt_hpc.run import state
from lt_hpc.store.atomic import append_line
from lt_hpc.store.paths import RunPaths

REQUEUE_WAIT_SECONDS = 120
POLL_SECONDS = 0.5
STARTED = time.monotonic()


def run(arguments: list[str]) -> None:
    """Run `python -m lt_hpc.stages ARGUMENTS` as this Slurm task; exits with its code.

    Stopped by a signal, the task saves its work and the job is requeued while it still runs; also
    when that takes longer than the notice it got, without what has not been saved by then. A merge
    with missing shards has them sampled again before it fails.
    """
    supervisor = Supervisor()  # before any slow import: submitit's own handlers would end the task
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")
    os.environ["LT_ATTEMPT"] = f"{os.environ['SLURM_JOB_ID']}-{restart}-{os.environ['SLURM_STEP_ID']}"
    os.environ["LT_RENDEZVOUS"] = "slurm"
    job = _Job(arguments, supervisor)
    if job.first:
        threading.Thread(target=job.leave_in_time, daemon=True).start()
    run_task = importlib.import_module("lt_hpc.stages.__main__").run_task
    ending = run_task(supervisor, arguments, job.tasks.append)
    job.leave(int(ending.code), str(ending.cause))


def margin(notice: float) -> float:
    """Seconds of the notice that are kept to ask the controller, which may have to be asked again."""
    return min(30.0, max(5.0, notice / 4))


class _Job:
    """How this task of a job leaves it: once, by its own end or because time is up."""

    def __init__(self, arguments: list[str], supervisor: Supervisor) -> None:
        self.arguments, self.supervisor = arguments, supervisor
        # Ranks of a training end together, and the first speaks for all. Tasks of an E-step do not: whichever
        # has to stop requeues the job for all.
        self.first = os.environ["SLURM_PROCID"] == "0" or arguments[2].startswith("sample")
        self.tasks: list[Any] = []  # this one, once its plan is read
        self.leaving = threading.Lock()

    def leave(self, code: int, cause: str) -> None:
        """Do what the ending asks for, and exit."""
        if not self.leaving.acquire(blocking=False):
            threading.Event().wait()  # the other thread is ending this process
        requeued = True
        if self.first and code == Interrupted.exit_code:
            code, requeued, more = self._requeue()
            cause += f"; {more}"
        elif self.first and code == IncompleteError.exit_code and self.arguments[2].startswith("merge"):
            try:
                _heal(self.arguments)
            except LtError as error:
                code, cause = error.exit_code, f"{cause}; {error}"
        elif code == 0 and self.arguments[2].startswith("evaluate"):
            _report(self.arguments[0])
        # Another rank that fails first takes rank 0 with it: it tells the cause itself.
        if self.first or code not in (0, Interrupted.exit_code):
            _record(self.arguments, code, cause)
        if code == Interrupted.exit_code and requeued:
            time.sleep(REQUEUE_WAIT_SECONDS)  # the requeue ends this process; other ranks wait for it
        if code:
            print(f"exit code {code}: {cause}", file=sys.stderr, flush=True)
            sys.exit(code)

    def leave_in_time(self) -> None:
        """Requeue the job when the task is still at work shortly before its notice ends."""
        while not self.supervisor.stop_requested():
            time.sleep(POLL_SECONDS)
        notice = self._settings()["signal_seconds"]
        time.sleep(max(0.0, notice - margin(notice)))
        if not self.leaving.acquire(blocking=False):
            return
        code, requeued, more = self._requeue()
        cause = f"not at a place to stop after {notice} s, what was not saved is lost; {more}"
        _record(self.arguments, code, cause)
        print(f"exit code {code}: {cause}", file=sys.stderr, flush=True)
        if requeued:
            time.sleep(REQUEUE_WAIT_SECONDS)
        os._exit(code)

    def _requeue(self) -> tuple[int, bool, str]:
        """Put this job back into the queue: (exit code, whether it was done, a few words on it)."""
        if self._in_vain():
            stage = self.arguments[2].partition("-")[0]
            blocks = " or lower sample.block_chunks" if stage in ("sample", "evaluate") else ""
            advice = f"out of time with nothing done: raise slurm.{stage}.minutes{blocks}"
            return StageError.exit_code, False, advice
        try:
            done = client.requeue(client.own_id(os.environ))
        except StageError as error:
            return Interrupted.exit_code, False, f"not requeued, launch again goes on: {error}"
        return Interrupted.exit_code, done, "requeued" if done else "cancelled, or requeued by Slurm"

    def _in_vain(self) -> bool:
        """Whether the job had all its time and has kept nothing of it: it would be requeued for ever."""
        stage, settings = self.arguments[2].partition("-")[0], self._settings()
        limit = 60 * settings[stage]["minutes"]
        all_its_time = max(limit / 2, limit - 2 * settings["signal_seconds"])
        if stage == "prepare" or time.monotonic() - STARTED < all_its_time:
            return False  # prepare keeps every part, and counts corpora
        return stage == "merge" or not any(t.progress.done > t.progress.first for t in self.tasks)

    def _settings(self) -> dict[str, Any]:
        """The slurm section of the plan."""
        root, plan_name = self.arguments[:2]
        raw = json.loads(RunPaths(Path(root)).plan(plan_name).read_text())
        return dict(raw["config"]["slurm"])


def _report(root: str) -> None:
    """Bring the run's report up to date: no launcher waits for a chain. What goes wrong with it is told,
    and takes nothing from the evaluation."""
    paths = RunPaths(Path(root))
    try:
        importlib.import_module("lt_hpc.report.output").write(state.pinned_plan(paths), paths)
    except Exception as error:
        print(f"warning: no report: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


def _heal(arguments: list[str]) -> None:
    root, plan_name, key = arguments[:3]
    heal = importlib.import_module("lt_hpc.cluster.backend").heal
    heal(RunPaths(Path(root)), plan_name, key, os.environ["SLURM_JOB_ID"])


def _record(arguments: list[str], code: int, cause: str) -> None:
    root, _, stage = arguments[:3]
    line = {
        "event": "ended",
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "stage": stage,
        "job": client.own_id(os.environ),
        "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        "node": os.environ.get("SLURMD_NODENAME"),
        "rank": int(os.environ["SLURM_PROCID"]),
        "code": code,
    }
    append_line(RunPaths(Path(root)).jobs, {**line, "cause": cause} if code else line)
