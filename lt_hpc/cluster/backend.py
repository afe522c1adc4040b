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
from lt_hpc.store.paths import RunPaths

LOCK_WAIT_SECONDS = 120


def launch(plan: Plan, paths: RunPaths) -> Outcome:
    """Submit what is neither done nor queued. The caller holds the lock and has pinned the plan."""
    return _reconcile(plan, paths, ())


def cancel_superseded(plan: Plan, paths: RunPaths) -> list[str]:
    """Cancel queued and running jobs of other settings, before their results are moved away."""
    _, doomed = chain.find_jobs(plan, paths, slurm.queue())
    slurm.cancel(doomed)
    return [f"cancelled jobs of other settings: {', '.join(sorted(doomed))}"] if doomed else []


def notice(plan: Plan) -> tuple[int, str]:
    """Seconds between the warning to save and the end of a training job, whatever ends it, and what
    decides them."""
    settings = plan.config.slurm
    found = slurm.preemption_notice(settings.train.partition or settings.partition)
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
    site, settings, queue = slurm.settings(), plan.config.slurm, slurm.queue()
    size = min(settings.max_array_size, int(site.get("MaxArraySize", "1001")))
    if size != settings.max_array_size:
        changed = dataclasses.replace(settings, max_array_size=size)
        plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, slurm=changed))
    limit = slurm.submit_limit(
        site, settings.sample.account or settings.account, settings.sample.qos or settings.qos
    )
    room = None if limit is None else limit - len(queue)
    submitter = Submitter(plan, paths)
    backend = Backend(submitter.submit, slurm.set_dependency, slurm.cancel)
    outcome = chain.reconcile(plan, paths, queue, backend, exclude, room)
    outcome.lines.append(f"reconciled in {time.monotonic() - started:.1f} s")
    return outcome
