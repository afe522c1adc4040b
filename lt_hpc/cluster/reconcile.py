"""Reconcile: join what is done (manifests) with what is queued, submit only the rest.

Can be run again at any moment, from any node, by people and by the chain itself (a merge
that finds shards missing heals the chain before it fails). Job names carry the run and the
submission, and what a submission covers is recorded before it is made, so that one look at the
queue says what every live job will do.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_hpc.cluster.left_out import leave_out
from lt_hpc.cluster.names import identity, identity_in, job_name, run_id
from lt_hpc.cluster.scheduler import Limits, Queued, Scheduler, Tasks
from lt_hpc.config.machines import SlurmConfig
from lt_hpc.errors import StageError
from lt_hpc.kinds import NAMES
from lt_hpc.run import events, state
from lt_hpc.run.events import Claim, Event, Submit, Submitted
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths

SETTLE_SECONDS = 90
"""How long a job on its way out of the queue may take; Slurm's KillWait is usually 30 s."""


@dataclass(frozen=True)
class Live:
    """A stage's jobs in the queue: their ids, those that have started and those that have not (an array may
    be both), the plans they were submitted by, the shards they handle, and their states."""

    jobs: frozenset[str] = frozenset()
    started: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    plans: frozenset[str] = frozenset()
    shards: frozenset[int] = frozenset()
    states: frozenset[str] = frozenset()


@dataclass
class Outcome:
    """What one reconcile did, in order, for people."""

    lines: list[str] = field(default_factory=list)
    submitted: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[str, list[str]] = field(default_factory=dict)


def of_run(run: str, queue: Sequence[Queued], happened: Sequence[Event]) -> list[Queued]:
    """The jobs in the queue that work on this run: of its chain, and allocations that run it. Pure."""
    prefix, held = identity(run, ""), allocations(run, happened)
    return [task for task in queue if identity_in(task.name).startswith(prefix) or task.job in held]


def states(run: str, queue: Sequence[Queued], happened: Sequence[Event]) -> dict[str, Counter[str]]:
    """Stage key -> how many of its jobs and array tasks are in which state of the queue. Pure."""
    stages = {identity(run, one.submission): one.stage for one in happened if isinstance(one, Submit)}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for task in queue:
        stage = stages.get(identity_in(task.name))
        if stage is not None:
            found[stage][task.state] += 1
    return dict(found)


def allocations(run: str, happened: Sequence[Event]) -> set[str]:
    """Ids of the jobs that run it as a whole (em_iter.sh). Pure."""
    return {one.job for one in happened if isinstance(one, Claim) and one.run == run}


def live_jobs(
    run: str, queue: Sequence[Queued], submissions: Sequence[Submit], planned: Plan
) -> tuple[dict[str, Live], set[str]]:
    """Stage key -> its live jobs, and the jobs to cancel: those that can never start and those
    submitted with other settings. Jobs of later iterations than the plan's are kept. Pure."""
    by_identity = {identity(run, one.submission): one for one in submissions}
    fingerprints = {stage.key: stage.fingerprint for stage in planned.stages}
    found: dict[str, list[tuple[Queued, Submit]]] = defaultdict(list)
    doomed: set[str] = set()
    for task in queue:
        made = by_identity.get(identity_in(task.name))
        if made is None:
            continue
        later = made.stage not in fingerprints and iteration_of(made.stage) > planned.iterations
        if later and not task.hopeless:
            continue
        if task.hopeless or fingerprints.get(made.stage) != made.fingerprint:
            doomed.add(task.identity)
            continue
        found[made.stage].append((task, made))
    return {key: _together(tasks) for key, tasks in found.items()}, doomed


def _together(tasks: Sequence[tuple[Queued, Submit]]) -> Live:
    """The jobs and array tasks of one stage, each with its submission."""
    shards = [
        shard
        for task, made in tasks
        for of_task in (made.shards if task.index is None else made.shards[task.index : task.index + 1])
        for shard in of_task
    ]
    return Live(
        jobs=frozenset(task.job for task, _ in tasks),
        started=frozenset(task.job for task, _ in tasks if not task.waiting),
        waiting=frozenset(task.job for task, _ in tasks if task.waiting),
        plans=frozenset(made.plan for _, made in tasks),
        shards=frozenset(shards),
        states=frozenset(task.state for task, _ in tasks),
    )


def iteration_of(key: str) -> int:
    """The iteration in the key of a stage, which may be one that no plan has any more."""
    return int(key.partition("-")[2] or 0)


def find_jobs(plan: Plan, paths: RunPaths, queue: Sequence[Queued]) -> tuple[dict[str, Live], set[str]]:
    """`live_jobs` for a run folder."""
    return live_jobs(run_id(paths), queue, events.of_kind(paths, Submit), plan)


def settled_queue(paths: RunPaths, scheduler: Scheduler, exclude: Collection[str]) -> list[Queued]:
    """The queue without some jobs, once no other job of this run is on its way out: of two such jobs, one
    that was requeued comes back and one that has failed does not. After a while both count as queued."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        queue = [task for task in scheduler.queue() if task.job not in exclude]
        mine = of_run(run_id(paths), queue, [])
        if not any(task.ending for task in mine) or time.monotonic() > deadline:
            return queue
        time.sleep(1)


def cancel_superseded(plan: Plan, paths: RunPaths, scheduler: Scheduler) -> list[str]:
    """Cancel queued and running jobs of other settings and wait until they are gone, before their
    results are moved away.

    Raises:
        StageError: when one does not end.
    """
    _, doomed = find_jobs(plan, paths, scheduler.queue())
    if not doomed:
        return []
    scheduler.cancel(doomed)
    jobs = {job.partition("_")[0] for job in doomed}
    names = ", ".join(sorted(doomed))
    deadline = time.monotonic() + SETTLE_SECONDS
    while find_jobs(plan, paths, [task for task in scheduler.queue() if task.job in jobs])[1]:
        if time.monotonic() > deadline:
            raise StageError(
                f"jobs of other settings were cancelled but have not ended: {names}; launch again when "
                "squeue lists them no more"
            )
        time.sleep(1)
    return [f"cancelled jobs of other settings: {names}"]


def cancel_stranded(
    plan: Plan, paths: RunPaths, scheduler: Scheduler, failed: Stage, own_job: str
) -> list[str]:
    """Cancel what waits for a stage that has failed, or with it for an input that nobody makes any more:
    it could only fail. Shards that failed by themselves are repaired by the stage after them. Returns
    the ids of jobs and array tasks. The caller holds the lock and runs in `own_job`."""
    queue = scheduler.queue()
    live, _ = find_jobs(plan, paths, [task for task in queue if task.job != own_job])
    look = state.Look(paths)
    lost = look.missing_inputs(plan, failed).keys() - live.keys()
    if not failed.kind.sharded and failed.key not in live:
        lost.add(failed.key)
    for stage in plan.stages:
        if look.missing_inputs(plan, stage).keys() & lost:
            lost.add(stage.key)
    run, own = run_id(paths), {stage.key: stage.fingerprint for stage in plan.stages}
    theirs = {
        identity(run, one.submission)
        for one in events.of_kind(paths, Submit)
        if one.stage in lost and one.fingerprint == own[one.stage]
    }
    stranded = sorted(task.identity for task in queue if task.waiting and identity_in(task.name) in theirs)
    if stranded:
        scheduler.cancel(stranded)
    return stranded


def reconcile(
    plan: Plan,
    paths: RunPaths,
    scheduler: Scheduler,
    exclude: Collection[str] = (),
    after_all: Collection[str] = (),
) -> Outcome:
    """Submit what is neither done nor live, and have live jobs wait for what was submitted.

    The caller holds the run's lock. `exclude`: jobs to treat as gone (the caller's own); `after_all`: jobs
    whose end every new one waits for.
    """
    started, outcome = time.monotonic(), Outcome()
    queue = settled_queue(paths, scheduler, exclude)
    live, doomed = find_jobs(plan, paths, queue)
    if doomed:
        scheduler.cancel(doomed)
        outcome.lines.append(f"cancelled, could never run or of other settings: {', '.join(sorted(doomed))}")
    look = state.Look(paths)  # after the queue: what has left it meanwhile has its output
    pending = look.pending(plan)
    wanted: dict[str, list[int] | None] = {}
    replaced: dict[str, frozenset[str]] = {}
    for stage in pending:
        if _started_in_vain(plan, look, stage, live.get(stage.key, Live()), wanted):
            replaced[stage.key] = live.pop(stage.key).jobs
        wanted[stage.key] = unhandled(look, stage, live.get(stage.key, Live()))
    sharded = [stage for stage in pending if stage.kind.sharded and wanted[stage.key]]
    arrays = array_tasks(wanted, scheduler.limits(plan, sharded, len(queue)) if sharded else {})
    waiting = {key: current.waiting for key, current in live.items() if current.waiting}
    fresh = [stage for stage in pending if arrays[stage.key]]
    without, lines = leave_out(plan, paths, scheduler, fresh, waiting)
    outcome.lines += lines
    asked = functools.cache(lambda name: _asked_by(plan, paths, name))
    for stage in pending:
        after = {job for need in stage.needs for job in outcome.jobs.get(need, [])}
        after |= replaced.get(stage.key, frozenset()) | set(after_all)  # until they have ended
        fresh_need = any(need in outcome.submitted for need in stage.needs)
        current = live.get(stage.key, Live())
        new = _submit(plan, paths, scheduler, stage, arrays[stage.key], after, without.get(stage.key, ()))
        if fresh_need:
            # One that has started has its inputs, or heals.
            outcome.lines += [_delay(scheduler, stage, job, after) for job in sorted(current.waiting)]
        if new:
            outcome.submitted[stage.key] = new
            waits = f" after {', '.join(sorted(after))}" if after else ""
            outcome.lines.append(f"{stage.key}: submitted as job {', '.join(new)}{waits}")
        elif current.jobs:
            states = ", ".join(sorted(current.states)).lower()
            outcome.lines.append(
                f"{stage.key}: already queued as job {', '.join(sorted(current.jobs))}, {states}"
            )
            then = [asked(name) for name in current.plans]
            outcome.lines += _asked_otherwise(stage, current, plan.config.slurm, then)
        outcome.jobs[stage.key] = sorted({*current.jobs, *new})
    for key, jobs in replaced.items():  # last, as the caller's own job may be one of them
        scheduler.cancel(jobs)
        names = ", ".join(sorted(jobs))
        outcome.lines.append(f"{key}: cancelled job {names}, which started before what it needs is there")
    outcome.lines.append(f"reconciled in {time.monotonic() - started:.1f} s")
    return outcome


def _asked_by(plan: Plan, paths: RunPaths, name: str) -> SlurmConfig | None:
    """The slurm settings of a pinned plan, None where it is gone."""
    if name == plan.fingerprint:
        return plan.config.slurm
    return state.read_plan(paths.plan(name)).config.slurm if paths.plan(name).exists() else None


def _asked_otherwise(
    stage: Stage, current: Live, now: SlurmConfig, then: Sequence[SlurmConfig | None]
) -> Iterator[str]:
    """A line where jobs that have not started were submitted with other settings of their jobs than
    the present ones."""

    def asked(of: SlurmConfig) -> dict[str, Any]:
        others = [name for name in NAMES if name != stage.name]
        return {k: v for k, v in dataclasses.asdict(of).items() if k not in others}

    if current.waiting and any(one is not None and one != now and asked(one) != asked(now) for one in then):
        jobs = " ".join(sorted(current.waiting))
        yield f"{stage.key}: with other slurm settings than now; to apply these: scancel {jobs}, launch again"


def _delay(scheduler: Scheduler, stage: Stage, job: str, after: Collection[str]) -> str:
    try:
        scheduler.delay(job, after)
    except StageError as error:  # it has started in the meantime
        return f"{stage.key}: job {job} could not be made to wait: {error}"
    return f"{stage.key}: job {job} now waits for {', '.join(sorted(after))}"


def _started_in_vain(
    plan: Plan, look: state.Look, stage: Stage, current: Live, wanted: Mapping[str, list[int] | None]
) -> bool:
    """Whether jobs of a stage have started though an input of theirs is to be made, so that they can only
    fail. A stage that repairs its input heals instead."""
    if not current.started or stage.kind.repairs is not None:
        return False
    return any(wanted.get(maker) is not None for maker in look.missing_inputs(plan, stage))


def unhandled(look: state.Look, stage: Stage, current: Live) -> list[int] | None:
    """Shards of a stage that nobody handles; [] for a stage without shards, None for no work."""
    if not stage.kind.sharded:
        return None if current.jobs else []
    return [s for s in look.standing(stage).missing if s not in current.shards] or None


def array_tasks(
    wanted: Mapping[str, list[int] | None], limits: Mapping[str, Limits]
) -> dict[str, list[Tasks]]:
    """Stage key -> what to submit for it, a list of tasks for each job or job array. Pure.

    An array task handles a shard for each process that it has, or more where the stages together
    would have more tasks than their limits, or than the room that the site leaves.
    """
    sharded = [key for key, shards in wanted.items() if shards]
    singles = sum(shards == [] for shards in wanted.values())
    pieces: dict[str, list[Tasks]] = {}
    for key, shards in wanted.items():
        if not shards:
            pieces[key] = [] if shards is None else [[]]
            continue
        of = limits[key]
        count, most = -(-len(shards) // of.processes), of.tasks
        if of.room is not None:
            share = max(1, (of.room - singles) // len(sharded))
            most = min(most or share, share)
        tasks = deal(shards, min(count, most or count))
        size = of.array_size or len(tasks)
        pieces[key] = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    return pieces


def deal(shards: Sequence[int], count: int) -> list[list[int]]:
    """Shards in `count` runs of neighbours whose lengths differ by at most one."""
    edges = [len(shards) * task // count for task in range(count + 1)]
    return [list(shards[start:stop]) for start, stop in itertools.pairwise(edges)]


def _submit(
    plan: Plan,
    paths: RunPaths,
    scheduler: Scheduler,
    stage: Stage,
    arrays: Sequence[Tasks],
    after: Collection[str],
    without: Sequence[str],
) -> list[str]:
    """Record first, then submit: a launcher that dies in between leaves a job whose name still
    leads to what it covers."""
    ids: list[str] = []
    for tasks in arrays:
        submission = uuid.uuid4().hex[:8]
        made = Submit(
            submission=submission,
            stage=stage.key,
            fingerprint=stage.fingerprint,
            plan=plan.fingerprint,
            shards=[list(shards) for shards in tasks],
            scheduler=scheduler.name,
            nodes=plan.config.slurm.job(stage.name).nodes,
        )
        events.record(paths, made)
        name = job_name(stage.key, paths.root.resolve().name, identity(run_id(paths), submission))
        jobs = scheduler.submit(plan, stage, name, tasks, after, without)
        events.record(paths, Submitted(submission=submission, jobs=jobs))
        ids += jobs
    return ids
