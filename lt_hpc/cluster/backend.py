"""The Slurm back-end: reconcile a run with the real queue, under the run's lock."""

from __future__ import annotations

import dataclasses
import json
import time

from lt_hpc import config as configuration
from lt_hpc.cluster import chain, lock, slurm, state
from lt_hpc.cluster import plan as planning
from lt_hpc.cluster.chain import Backend, Outcome
from lt_hpc.cluster.plan import Plan
from lt_hpc.cluster.slurm import Queued
from lt_hpc.errors import StageError
from lt_hpc.store.paths import RunPaths

LOCK_WAIT_SECONDS = 120
SETTLE_SECONDS = 90
"""How long a job on its way out may take; KillWait is 30 s as a rule."""


def launch(plan: Plan, paths: RunPaths) -> Outcome:
    """Submit what is neither done nor queued. The caller holds the lock and has pinned the plan."""
    return _reconcile(plan, paths, ())


def jobs_of_run(paths: RunPaths) -> tuple[list[str], list[str]]:
    """Ids of the jobs of this run's chain in the queue, and of allocations that run it (em_iter.sh)."""
    records = chain.records(paths)
    submitted = any(record["event"] in ("submit", "allocation") for record in records)
    if not submitted or not slurm.available()[0]:
        return [], []
    found = chain.of_run(chain.run_id(paths), slurm.queue(), records)
    jobs = {task.job for task in found}
    allocations = {record["job"] for record in records if record["event"] == "allocation"} & jobs
    return sorted(jobs - allocations), sorted(allocations)


def cancel_superseded(plan: Plan, paths: RunPaths) -> list[str]:
    """Cancel queued and running jobs of other settings and wait until they are gone, before their
    results are moved away.

    Raises:
        StageError: when one does not end.
    """
    _, doomed = chain.find_jobs(plan, paths, slurm.queue())
    if not doomed:
        return []
    slurm.cancel(doomed)
    jobs = {job.partition("_")[0] for job in doomed}
    names = ", ".join(sorted(doomed))
    deadline = time.monotonic() + SETTLE_SECONDS
    while chain.find_jobs(plan, paths, [task for task in slurm.queue() if task.job in jobs])[1]:
        if time.monotonic() > deadline:
            raise StageError(f"jobs of other settings were cancelled but have not ended: {names}")
        time.sleep(1)
    return [f"cancelled jobs of other settings: {names}"]


def _settled_queue(paths: RunPaths) -> list[Queued]:
    """The queue once no job of this run is on its way out: of two such jobs, one that was requeued
    comes back and one that has failed does not. After a while both count as queued."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        queue = slurm.queue()
        mine = chain.of_run(chain.run_id(paths), queue, [])
        if not any(task.ending for task in mine) or time.monotonic() > deadline:
            return queue
        time.sleep(1)


def notice(plan: Plan) -> tuple[int, str]:
    """Seconds between the warning to save and the end of a training job, whatever ends it, and what
    decides them."""
    settings = plan.config.slurm
    try:
        found = slurm.preemption_notice(settings.train.partition or settings.partition)
    except StageError:  # no reason not to run
        found = None
    if found is not None and found[1] < settings.signal_seconds:
        return found[1], f"GraceTime={found[1]} of partition {found[0]}"
    return settings.signal_seconds, f"slurm.signal_seconds={settings.signal_seconds}"


def heal(paths: RunPaths, plan_name: str, key: str, own_job: str) -> None:
    """From inside a merge that found shards missing or corrupt: have them sampled again, with a
    new merge after them and the rest of the chain waiting for that.

    Raises:
        StageError: after too many attempts.
    """
    raw = json.loads(paths.plan(plan_name).read_text())
    plan = planning.from_json(raw, configuration.from_dict(raw["config"]))
    sample = plan.stage(plan.stage(key).needs[0])
    if any(state.problem(paths, plan.stage(need)) is not None for need in sample.needs):
        return  # there is nothing to sample with: the cause lies further up, and is told there
    with lock.hold(paths, LOCK_WAIT_SECONDS):
        chain.record_heal(paths, plan.stage(key), f"found by job {own_job}")
        outcome = _reconcile(plan, paths, (own_job,))
    print("\n".join(outcome.lines), flush=True)


def _reconcile(plan: Plan, paths: RunPaths, exclude: tuple[str, ...]) -> Outcome:
    from lt_hpc.cluster.submit import Submitter

    started = time.monotonic()
    site, settings, queue = slurm.settings(), plan.config.slurm, _settled_queue(paths)
    size = min(settings.max_array_size, int(site.get("MaxArraySize", "1001")))
    if size != settings.max_array_size:
        changed = dataclasses.replace(settings, max_array_size=size)
        plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, slurm=changed))
    room = _room(plan, site, len(queue))
    submitter = Submitter(plan, paths)
    backend = Backend(submitter.submit, slurm.set_dependency, slurm.cancel)
    outcome = chain.reconcile(plan, paths, queue, backend, exclude, room)
    outcome.lines.append(f"reconciled in {time.monotonic() - started:.1f} s")
    return outcome


def _room(plan: Plan, site: dict[str, str], queued: int) -> int | None:
    """Jobs and array tasks that this user may still submit; None where nothing limits them, or the
    accounting database does not answer."""
    settings = plan.config.slurm
    account, qos = settings.sample.account or settings.account, settings.sample.qos or settings.qos
    try:
        limit = slurm.submit_limit(site, account, qos)
    except StageError:  # sbatch itself will say when it is too much
        return None
    return None if limit is None else limit - queued
