"""What a Slurm job runs: one task of a stage, then whatever its ending asks for.

Submitted by reference with plain strings, so that nothing of the launcher's memory travels.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

from lt_hpc.cluster import slurm
from lt_hpc.errors import IncompleteError, Interrupted, LtError, StageError
from lt_hpc.store.atomic import append_line
from lt_hpc.store.paths import RunPaths

REQUEUE_WAIT_SECONDS = 120


def run(arguments: list[str]) -> None:
    """Run `python -m lt_hpc.stages ARGUMENTS` as this Slurm task; exits with its code.

    Stopped by a signal, the task has saved its work and the job is requeued while it still
    runs. A merge with missing shards has them sampled again before it fails.
    """
    rank = os.environ["SLURM_PROCID"]
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")
    os.environ["LT_ATTEMPT"] = f"{os.environ['SLURM_JOB_ID']}-{restart}-{os.environ['SLURM_STEP_ID']}"
    os.environ["LT_RENDEZVOUS"] = "slurm"
    stages = importlib.import_module("lt_hpc.stages.__main__")
    code = int(stages.main(arguments))
    if rank == "0":
        try:
            code = _after(arguments, code)
        except LtError as error:
            print(f"{arguments[2]}: {error}", file=sys.stderr, flush=True)
            code = error.exit_code
        _record(arguments, code)
    if code == Interrupted.exit_code:
        time.sleep(REQUEUE_WAIT_SECONDS)  # the requeue ends this process; other ranks wait for it
    if code:
        sys.exit(code)


def _record(arguments: list[str], code: int) -> None:
    root, _, stage = arguments[:3]
    job = slurm.own_id(os.environ)
    line = {
        "event": "ended",
        "stage": stage,
        "job": job,
        "code": code,
        "node": os.environ.get("SLURMD_NODENAME"),
    }
    if code:
        line["log"] = str(RunPaths(Path(root)).slurm)
    append_line(RunPaths(Path(root)).jobs, line)


def _after(arguments: list[str], code: int) -> int:
    root, plan_name, key = arguments[:3]
    if code == Interrupted.exit_code:
        try:
            slurm.requeue(slurm.own_id(os.environ))
        except StageError as error:
            print(f"{key}: could not requeue ({error}); launch again to go on", file=sys.stderr, flush=True)
            sys.exit(code)
    if code == IncompleteError.exit_code and key.startswith("merge"):
        heal = importlib.import_module("lt_hpc.cluster.backend").heal
        heal(RunPaths(Path(root)), plan_name, key, os.environ["SLURM_JOB_ID"])
    return code
