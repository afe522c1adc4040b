"""The Slurm back-end: reconcile a run with the real queue, under the run's lock."""

from __future__ import annotations

import time
from collections import Counter

from lt_hpc.cluster import lock, reconcile
from lt_hpc.cluster.reconcile import Backend, Outcome, Site
from lt_hpc.cluster.slurm import client
from lt_hpc.cluster.slurm.client import Queued
from lt_hpc.errors import StageError
from lt_hpc.run import state
from lt_hpc.run.plan import Plan
from lt_hpc.store.paths import RunPaths

LOCK_WAIT_SECONDS = 600
"""Of a merge that heals, which has nothing better to do."""
SETTLE_SECONDS = 90
"""How long a job on its way out may take; KillWait is 30 s as a rule."""


def launch(plan: Plan, paths: RunPaths) -> Outcome:
    """Submit what is neither done nor queued. The caller holds the lock and has pinned the plan."""
    reconcile.record_launch(paths)
    return _reconcile(plan, paths, ())


def jobs_of_run(paths: RunPaths) -> tuple[list[str], list[str]]:
    """Ids of the jobs of this run's chain in the queue, and of allocations that run it (em_iter.sh)."""
    if not submitted(paths):
        return [], []
    run, records = reconcile.run_id(paths), reconcile.records(paths)
    jobs = {task.job for task in reconcile.of_run(run, client.queue(), records)}
    allocations = reconcile.allocations(run, records) & jobs
    return sorted(jobs - allocations), sorted(allocations)


def states(paths: RunPaths) -> dict[str, Counter[str]]:
    """Stage key -> the states of its jobs in the queue; nothing where no job was submitted or no
    controller answers."""
    if not submitted(paths) or not client.available()[0]:
        return {}
    return reconcile.states(reconcile.run_id(paths), client.queue(), reconcile.records(paths))


def submitted(paths: RunPaths) -> bool:
    """Whether any job has ever worked on this run."""
    return any(record["event"] in ("submit", "allocation") for record in reconcile.records(paths))


def cancel_superseded(plan: Plan, paths: RunPaths) -> list[str]:
    """Cancel queued and running jobs of other settings and wait until they are gone, before their
    results are moved away.

    Raises:
        StageError: when one does not end.
    """
    _, doomed = reconcile.find_jobs(plan, paths, client.queue())
    if not doomed:
        return []
    client.cancel(doomed)
    jobs = {job.partition("_")[0] for job in doomed}
    names = ", ".join(sorted(doomed))
    deadline = time.monotonic() + SETTLE_SECONDS
    while reconcile.find_jobs(plan, paths, [task for task in client.queue() if task.job in jobs])[1]:
        if time.monotonic() > deadline:
            raise StageError(f"jobs of other settings were cancelled but have not ended: {names}")
        time.sleep(1)
    return [f"cancelled jobs of other settings: {names}"]


def _settled_queue(paths: RunPaths) -> list[Queued]:
    """The queue once no job of this run is on its way out: of two such jobs, one that was requeued
    comes back and one that has failed does not. After a while both count as queued."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        queue = client.queue()
        mine = reconcile.of_run(reconcile.run_id(paths), queue, [])
        if not any(task.ending for task in mine) or time.monotonic() > deadline:
            return queue
        time.sleep(1)


def notice(plan: Plan) -> tuple[int, str]:
    """Seconds between the warning to save and the end of a training job, whatever ends it, and what
    decides them."""
    settings = plan.config.slurm
    try:
        found = client.preemption_notice(settings.job("train").partition or settings.partition)
    except StageError:  # no reason not to run
        found = None
    if found is not None and found[1] < settings.signal_seconds:
        return found[1], f"GraceTime={found[1]} of partition {found[0]}"
    return settings.signal_seconds, f"slurm.signal_seconds={settings.signal_seconds}"


def heal(paths: RunPaths, plan_name: str, key: str, own_job: str) -> None:
    """From inside a merge that found shards missing or corrupt: have them sampled again, with a
    new merge after them and the rest of the chain waiting for that. Nothing where a later launch
    has other settings for it.

    Raises:
        StageError: after too many attempts.
    """
    with lock.hold(paths, LOCK_WAIT_SECONDS):
        plan = _plan_to_heal(state.read_plan(paths.plan(plan_name)), state.pinned_plan(paths), key)
        if plan is None:
            print(f"{key}: launched again with other settings, its shards are not missed", flush=True)
            return
        sample = plan.stage(plan.stage(key).needs[0])
        if any(state.problem(paths, plan.stage(need)) is not None for need in sample.needs):
            return  # there is nothing to sample with: the cause lies further up, and is told there
        missing = len(state.missing_shards(paths, plan, sample))
        reconcile.record_heal(paths, plan.stage(key), missing, f"found by job {own_job}")
        outcome = _reconcile(plan, paths, (own_job,))
    print("\n".join(outcome.lines), flush=True)


def _plan_to_heal(own: Plan, newest: Plan, key: str) -> Plan | None:
    """The plan of the last launch, where it wants what this merge makes; that of the merge itself where
    the last launch just had fewer iterations; else None. Pure."""
    wanted = {stage.key: stage.fingerprint for stage in newest.stages}
    if wanted.get(key) == own.stage(key).fingerprint:
        return newest
    beyond = key not in wanted and all(
        wanted.get(stage.key, stage.fingerprint) == stage.fingerprint for stage in own.stages
    )
    return own if beyond else None


def _reconcile(plan: Plan, paths: RunPaths, exclude: tuple[str, ...]) -> Outcome:
    from lt_hpc.cluster.slurm.submit import Submitter

    started = time.monotonic()
    settings, queue = client.settings(), _settled_queue(paths)
    site = Site(int(settings.get("MaxArraySize", "1001")), _room(plan, settings, len(queue)))
    submitter = Submitter(plan, paths)
    backend = Backend(submitter.submit, client.set_dependency, client.cancel)
    outcome = reconcile.reconcile(plan, paths, queue, backend, exclude, site)
    outcome.lines.append(f"reconciled in {time.monotonic() - started:.1f} s")
    return outcome


def _room(plan: Plan, site: dict[str, str], queued: int) -> int | None:
    """Jobs and array tasks that this user may still submit; None where nothing limits them, or the
    accounting database does not answer."""
    settings = plan.config.slurm
    account, qos = (
        settings.job("sample").account or settings.account,
        settings.job("sample").qos or settings.qos,
    )
    try:
        limit = client.submit_limit(site, account, qos)
    except StageError:  # sbatch itself will say when it is too much
        return None
    return None if limit is None else limit - queued
