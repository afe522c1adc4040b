"""python -m lt_hpc.crash RUN_DIR PLAN STAGE EXIT_CODE: after the ranks of a training job have failed.

The job's script calls it. Where a rank has said why it failed, that stays the end of it. Where ranks were
lost to a card, a driver or the network, or died without a word (NCCL aborts a process), the job goes back
into the queue and on from its checkpoint: a bounded number of times between two checkpoints.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lt_hpc.cluster import lock
from lt_hpc.cluster.reconcile import cancel_stranded
from lt_hpc.cluster.scheduler import Scheduler
from lt_hpc.cluster.slurm import environment
from lt_hpc.cluster.slurm.scheduler import Slurm
from lt_hpc.errors import HardwareError, Interrupted, LtError, guarded
from lt_hpc.job import HEAL_LOCK_SECONDS, run
from lt_hpc.run import events, state
from lt_hpc.run.events import Crash, Ended
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store import checkpoints
from lt_hpc.store.paths import RunPaths

MAX_CRASHES = 3
"""How often in a row a job may crash with no new checkpoint before it fails for good."""


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; what it decided is printed into the job's log."""
    root, name, key, code = sys.argv[1:] if arguments is None else arguments
    paths = RunPaths(Path(root))
    plan = state.read_plan(paths.plan(name))
    job, restart = environment.attempt(os.environ)
    print(after(plan, plan.stage(key), paths, Slurm(paths, run), job, restart, int(code)), flush=True)
    return 0


def after(
    plan: Plan, stage: Stage, paths: RunPaths, scheduler: Scheduler, job: str, restart: int, code: int
) -> str:
    """Requeue a job whose ranks were lost, or cancel what waits for it; says what was done."""
    happened = events.read(paths)
    ends = [one for one in happened if isinstance(one, Ended) and one.stage == stage.key]
    ends = [one for one in ends if (one.job, one.restart) == (job, restart) and one.code]
    if any(one.code == Interrupted.exit_code for one in ends):
        return f"{stage.key}: it was stopped, and asked for what comes next itself"
    failed = [one for one in ends if one.code != HardwareError.exit_code]
    if failed:
        return _given_up(plan, stage, paths, scheduler, job, failed[0].cause)
    cause = ends[0].cause if ends else f"its ranks ended with exit code {code} and said nothing"
    found = checkpoints.latest(paths.checkpoints(stage.iteration, stage.fingerprint), stage.fingerprint)
    crash = Crash(
        stage=stage.key, fingerprint=stage.fingerprint, step=found.step if found else 0,
        job=job, restart=restart, cause=cause,
    )  # fmt: skip
    events.record(paths, crash)
    count = events.count_crashes([*happened, crash], stage.fingerprint)
    if count >= MAX_CRASHES:
        cause = f"{cause}; given up after {count} crashes with no checkpoint after step {crash.step}"
        events.record(paths, Ended(stage=stage.key, code=code, cause=cause, job=job, restart=restart))
        return _given_up(plan, stage, paths, scheduler, job, cause)
    done = scheduler.requeue(job)
    said = (
        f"requeued, {count} of at most {MAX_CRASHES - 1} times" if done else "not requeued: it was cancelled"
    )
    return f"{stage.key}: crashed ({cause}); {said}, and goes on from step {crash.step}"


def _given_up(plan: Plan, stage: Stage, paths: RunPaths, scheduler: Scheduler, job: str, cause: str) -> str:
    """Nothing of what waits for the stage can succeed any more."""
    try:
        with lock.hold(paths, HEAL_LOCK_SECONDS):
            stranded = cancel_stranded(plan, paths, scheduler, stage, job)
    except LtError as error:
        return f"{stage.key}: failed ({cause}); {error}"
    more = f"; cancelled what waits for it: {', '.join(stranded)}" if stranded else ""
    return f"{stage.key}: failed ({cause}){more}"


if __name__ == "__main__":
    sys.exit(main())
