"""What a Slurm job runs: one task of a stage, then whatever its ending asks for.

Submitted by reference with plain strings, so that nothing of the launcher's memory travels.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

from lt_hpc.cluster import slurm
from lt_hpc.cluster.signals import Supervisor
from lt_hpc.errors import IncompleteError, Interrupted, LtError, StageError
from lt_hpc.store.atomic import append_line
from lt_hpc.store.paths import RunPaths

REQUEUE_WAIT_SECONDS = 120
STARTED = time.monotonic()


def run(arguments: list[str]) -> None:
    """Run `python -m lt_hpc.stages ARGUMENTS` as this Slurm task; exits with its code.

    Stopped by a signal, the task has saved its work and the job is requeued while it still
    runs. A merge with missing shards has them sampled again before it fails.
    """
    supervisor = Supervisor()  # before any slow import: submitit's own handlers would end the task
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")
    os.environ["LT_ATTEMPT"] = f"{os.environ['SLURM_JOB_ID']}-{restart}-{os.environ['SLURM_STEP_ID']}"
    os.environ["LT_RENDEZVOUS"] = "slurm"
    ending = importlib.import_module("lt_hpc.stages.__main__").run_task(supervisor, arguments)
    code, cause = int(ending.code), str(ending.cause)
    first, requeued = os.environ["SLURM_PROCID"] == "0", True
    if first and code == Interrupted.exit_code:
        code, requeued, more = _requeue(arguments)
        cause += f"; {more}"
    elif first and code == IncompleteError.exit_code and arguments[2].startswith("merge"):
        try:
            _heal(arguments)
        except LtError as error:
            code, cause = error.exit_code, f"{cause}; {error}"
    # Another rank that fails first takes rank 0 with it: it tells the cause itself.
    if first or code not in (0, Interrupted.exit_code):
        _record(arguments, code, cause)
    if code == Interrupted.exit_code and requeued:
        time.sleep(REQUEUE_WAIT_SECONDS)  # the requeue ends this process; other ranks wait for it
    if code:
        print(f"exit code {code}: {cause}", file=sys.stderr, flush=True)
        sys.exit(code)


def _requeue(arguments: list[str]) -> tuple[int, bool, str]:
    """Put this job back into the queue: (exit code, whether it was done, a few words on it)."""
    try:
        _check_time(*arguments[:3])
    except StageError as error:
        return error.exit_code, False, str(error)
    try:
        done = slurm.requeue(slurm.own_id(os.environ))
    except StageError as error:
        return Interrupted.exit_code, False, f"not requeued, launch again goes on: {error}"
    return Interrupted.exit_code, done, "requeued" if done else "cancelled, or requeued by Slurm"


def _heal(arguments: list[str]) -> None:
    root, plan_name, key = arguments[:3]
    heal = importlib.import_module("lt_hpc.cluster.backend").heal
    heal(RunPaths(Path(root)), plan_name, key, os.environ["SLURM_JOB_ID"])


def _check_time(root: str, plan_name: str, key: str) -> None:
    """An evaluation starts anew each time: out of time, it would be requeued for ever.

    Raises:
        StageError: naming the setting to raise.
    """
    stage = key.partition("-")[0]
    if stage != "evaluate":
        return
    settings = json.loads(RunPaths(Path(root)).plan(plan_name).read_text())["config"]["slurm"]
    limit = 60 * settings[stage]["minutes"]
    if time.monotonic() - STARTED > limit - 2 * settings["signal_seconds"]:
        raise StageError(f"out of time: raise slurm.{stage}.minutes={settings[stage]['minutes']}")


def _record(arguments: list[str], code: int, cause: str) -> None:
    root, _, stage = arguments[:3]
    line = {
        "event": "ended",
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "stage": stage,
        "job": slurm.own_id(os.environ),
        "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        "node": os.environ.get("SLURMD_NODENAME"),
        "rank": int(os.environ["SLURM_PROCID"]),
        "code": code,
    }
    append_line(RunPaths(Path(root)).jobs, {**line, "cause": cause} if code else line)
