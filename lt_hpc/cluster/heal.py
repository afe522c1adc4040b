"""Healing: a stage that finds shards of its input missing or corrupt has just those made again."""

from __future__ import annotations

from lt_hpc.cluster.reconcile import Outcome, reconcile
from lt_hpc.cluster.scheduler import Scheduler
from lt_hpc.errors import StageError
from lt_hpc.run import events, state
from lt_hpc.run.events import Heal
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths

MAX_HEALS = 3
"""How often in a row, without success, a stage may have shards made again before it fails for good."""


def heal(plan: Plan, paths: RunPaths, scheduler: Scheduler, stage: Stage, own_job: str) -> Outcome | None:
    """Have the missing shards made again, with the stage after them and the rest of the chain
    waiting for that. None where there is nothing to make them from: the cause lies further up, and
    is reported there. The caller holds the lock; `own_job` is on its way out of the queue.

    Raises:
        StageError: after too many attempts.
    """
    assert stage.kind.repairs is not None
    shards = plan.producer(stage.inputs[stage.kind.repairs])
    if any(state.problem(paths, plan.stage(need)) is not None for need in shards.needs):
        return None
    record_heal(paths, stage, len(state.missing_shards(paths, shards)), f"found by job {own_job}")
    return reconcile(plan, paths, scheduler, (own_job,))


def plan_to_heal(own: Plan, newest: Plan, key: str) -> Plan | None:
    """The newest plan if it needs this stage's output; the stage's own plan if the newest one only
    stops at an earlier iteration; otherwise None. Pure."""
    wanted = {stage.key: stage.fingerprint for stage in newest.stages}
    if wanted.get(key) == own.stage(key).fingerprint:
        return newest
    beyond = key not in wanted and all(
        wanted.get(stage.key, stage.fingerprint) == stage.fingerprint for stage in own.stages
    )
    return own if beyond else None


def record_heal(paths: RunPaths, stage: Stage, missing: int, reason: str) -> None:
    """Record that a stage is having `missing` shards made again.

    Raises:
        StageError: after MAX_HEALS attempts without progress.
    """
    if events.count_heals(events.read(paths), stage.fingerprint, missing) >= MAX_HEALS:
        raise StageError(
            f"{stage.key}: gave up after {MAX_HEALS} attempts in which no more of its shards were completed, "
            f"{missing} are missing: {reason}"
        )
    healing = Heal(stage=stage.key, fingerprint=stage.fingerprint, missing=missing, reason=reason)
    events.record(paths, healing)
