"""Healing, by the chain itself: shards of an input that are missing or corrupt are made again, and jobs that
the cluster took away are submitted again. What a person has cancelled stays cancelled.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lt_hpc.cluster.names import identity, identity_in, run_id
from lt_hpc.cluster.reconcile import Outcome, find_jobs, reconcile
from lt_hpc.cluster.scheduler import Gone, Scheduler
from lt_hpc.errors import StageError
from lt_hpc.run import events, state
from lt_hpc.run.events import Event, Heal, Lost, Submit, Submitted
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths

MAX_HEALS = 3
"""How often in a row, without success, a stage may have shards made again before it fails for good."""
MAX_LOSSES = 3
"""How often since a launch a stage's jobs may be lost, other than by preemption."""
_ADVICE = {
    "OUT_OF_MEMORY": "raise slurm.{kind}.memory{blocks}",
    "NODE_FAIL": "leave bad nodes out: slurm.{kind}.options.exclude",
    "BOOT_FAIL": "leave bad nodes out: slurm.{kind}.options.exclude",
}


@dataclass(frozen=True)
class Loss:
    """A stage that is not done, and how the jobs ended that were the last to make it."""

    stage: Stage
    jobs: tuple[Gone, ...]

    @property
    def by_person(self) -> bool:
        return any(job.by_person for job in self.jobs)


def losses(plan: Plan, paths: RunPaths, scheduler: Scheduler, exclude: Collection[str] = ()) -> list[Loss]:
    """Stages of a plan that are not done, have no jobs, and whose last jobs were taken away or cancelled."""
    happened, run = events.read(paths), run_id(paths)
    live, _ = find_jobs(plan, paths, [task for task in scheduler.queue() if task.job not in exclude])
    look = state.Look(paths)
    stages = [stage for stage in look.pending(plan) if stage.key not in live]
    asked = submitted_last(stages, happened) - set(exclude)
    gone = [one for one in scheduler.gone(asked) if one.job not in exclude]
    found = []
    for stage in stages:
        missing = look.standing(stage).missing if stage.kind.sharded else [None]
        jobs = last_gone(run, stage.fingerprint, missing, happened, gone)
        if jobs:
            found.append(Loss(stage, jobs))
    return found


def gone_of(
    run: str, stages: Sequence[Stage], happened: Sequence[Event], gone: Sequence[Gone]
) -> dict[str, tuple[Gone, ...]]:
    """Stage key -> those of its last jobs that did not end by themselves, whatever they had done by then, for
    the stages that have some. Pure."""
    found = {
        stage.key: last_gone(run, stage.fingerprint, [*_last(stage.fingerprint, happened)], happened, gone)
        for stage in stages
    }
    return {key: jobs for key, jobs in found.items() if jobs}


def submitted_last(stages: Sequence[Stage], happened: Sequence[Event]) -> set[str]:
    """Ids of the jobs that were the last to make some stages, or shards of them. Pure."""
    made = {one for stage in stages for one, _ in _last(stage.fingerprint, happened).values()}
    known = (one for one in happened if isinstance(one, Submitted) and one.submission in made)
    return {job for one in known for job in one.jobs}


def _last(fingerprint: str, happened: Sequence[Event]) -> dict[int | None, tuple[str, int]]:
    """Shard (None: of a stage without shards) -> the submission that was the last to make it, and which task
    of it. Pure."""
    last: dict[int | None, tuple[str, int]] = {}
    for one in happened:
        if isinstance(one, Submit) and one.fingerprint == fingerprint:
            name = one.submission
            last |= {shard: (name, index) for index, of_task in enumerate(one.shards) for shard in of_task}
            last[None] = (name, 0)
    return last


def last_gone(
    run: str,
    fingerprint: str,
    missing: Sequence[int | None],
    happened: Sequence[Event],
    gone: Sequence[Gone],
) -> tuple[Gone, ...]:
    """Of the jobs and array tasks that were the last to make some shards (or None: a stage without shards),
    those that did not end by themselves. Pure."""
    last = _last(fingerprint, happened)
    made = [last[shard] for shard in missing if shard in last]
    wanted = {(identity(run, submission), index) for submission, index in made}
    names = {name for name, _ in wanted}
    return tuple(
        one
        for one in gone
        if (name := identity_in(one.name), one.index) in wanted or (one.index is None and name in names)
    )


def resubmit_lost(
    plan: Plan, paths: RunPaths, scheduler: Scheduler, own_job: str, own: Loss | None = None
) -> Outcome | None:
    """Submit again what the cluster took away, with the rest of the chain; None where that is nothing. The
    caller holds the lock; `own_job` is on its way out of the queue, and `own` is said of it.

    Raises:
        StageError: when a stage was lost too often, with what to change.
    """
    found = [loss for loss in losses(plan, paths, scheduler, (own_job,)) if not loss.by_person]
    found += [own] if own is not None else []
    if not found:
        return None
    happened = events.read(paths)
    for loss in found:
        stage, job = loss.stage, loss.jobs[-1]
        if not job.again and events.count_losses(happened, stage.fingerprint) >= MAX_LOSSES:
            blocks = f", or lower {stage.kind.blocks}" if stage.kind.blocks else ""
            advice = _ADVICE.get(job.state, "").format(kind=stage.name, blocks=blocks)
            raise StageError(
                f"{stage.key}: gave up, its jobs were lost {MAX_LOSSES} times: {job.state}; {advice}"
            )
        lost = Lost(
            stage=stage.key, fingerprint=stage.fingerprint, job=job.job, state=job.state, again=job.again
        )
        events.record(paths, lost)
    return reconcile(plan, paths, scheduler, (own_job,), (own_job,) if own is not None else ())


def heal(plan: Plan, paths: RunPaths, scheduler: Scheduler, stage: Stage, own_job: str) -> Outcome | None:
    """Have the missing shards made again, with the stage after them and the rest of the chain
    waiting for that. None where there is nothing to make them from: the cause lies further up, and
    is reported there. The caller holds the lock; `own_job` is on its way out of the queue.

    Raises:
        StageError: after too many attempts, or where a person has cancelled what should have made them.
    """
    assert stage.kind.repairs is not None
    shards = plan.producer(stage.inputs[stage.kind.repairs])
    for loss in losses(plan, paths, scheduler, (own_job,)):
        if loss.stage.key == shards.key and loss.by_person:
            jobs = ", ".join(sorted({job.job for job in loss.jobs if job.by_person}))
            raise StageError(f"{shards.key}: job {jobs} was cancelled (scancel); launch again goes on")
    look = state.Look(paths)
    if any(look.problem(plan.stage(need)) is not None for need in shards.needs):
        return None
    record_heal(paths, stage, len(look.standing(shards).missing), f"found by job {own_job}")
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
