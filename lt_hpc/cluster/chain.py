"""Reconcile: join what is done (manifests) with what is queued, submit only the rest.

Can be run again at any moment, from any node, by people and by the chain itself (a merge
that finds shards missing heals the chain before it fails). Job names carry the run and the
submission, and what a submission covers is recorded before it is made, so that one squeue
call says what every live job will do.
"""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_hpc.cluster import state
from lt_hpc.cluster.plan import Plan, Stage
from lt_hpc.cluster.slurm import Queued
from lt_hpc.errors import StageError
from lt_hpc.store.atomic import append_line, create_json
from lt_hpc.store.paths import RunPaths

Tasks = Sequence[Sequence[int]]
"""The shards of each task of an array."""

MAX_HEALS = 3
"""How often one merge may have missing shards sampled again before it fails for good."""


@dataclass(frozen=True)
class Live:
    """A stage's jobs in the queue: their ids, those that have not started, the shards they handle."""

    jobs: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    shards: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Backend:
    """What reconcile does to the outside: submit returns job ids."""

    submit: Callable[[Stage, str, Tasks, Collection[str]], list[str]]
    set_dependency: Callable[[str, Collection[str]], None]
    cancel: Callable[[Collection[str]], None]


@dataclass
class Outcome:
    """What one reconcile did, in order, for people."""

    lines: list[str] = field(default_factory=list)
    submitted: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[str, list[str]] = field(default_factory=dict)


def run_id(paths: RunPaths) -> str:
    """A short name for this run folder, made once, that survives moving it."""
    path = paths.root / "run_id.json"
    create_json(path, uuid.uuid4().hex[:8])
    return str(json.loads(path.read_text()))


def job_name(run: str, submission: str) -> str:
    return f"lt-{run}-{submission}"


def of_run(run: str, queue: Sequence[Queued], lines: Sequence[dict[str, Any]]) -> list[Queued]:
    """The jobs in the queue that work on this run: of its chain, and allocations that run it. Pure."""
    prefix = job_name(run, "")
    allocations = {line["job"] for line in lines if line["event"] == "allocation"}
    return [task for task in queue if task.name.startswith(prefix) or task.job in allocations]


def records(paths: RunPaths) -> list[dict[str, Any]]:
    """The lines of jobs.jsonl."""
    try:
        text = paths.jobs.read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def live_jobs(
    run: str, queue: Sequence[Queued], submissions: Sequence[dict[str, Any]], plan_stages: dict[str, str]
) -> tuple[dict[str, Live], set[str]]:
    """Stage key -> its live jobs, and the jobs of this run that have to go: those that can never
    run, and those of other settings. Pure.

    `submissions` are the records of event "submit"; `plan_stages` maps key to fingerprint.
    """
    by_name = {job_name(run, record["submission"]): record for record in submissions}
    found: dict[str, Live] = {}
    doomed: set[str] = set()
    for task in queue:
        record = by_name.get(task.name)
        if record is None:
            continue
        key = record["stage"]
        if task.hopeless or plan_stages.get(key) != record["fingerprint"]:
            doomed.add(task.job if task.index is None else f"{task.job}_{task.index}")
            continue
        covered = record["shards"]
        mine = covered if task.index is None else covered[task.index : task.index + 1]
        before = found.get(key, Live())
        waiting = before.waiting | ({task.job} if task.state == "PENDING" else set())
        found[key] = Live(before.jobs | {task.job}, waiting, before.shards.union(*mine))
    return found, doomed


def find_jobs(plan: Plan, paths: RunPaths, queue: Sequence[Queued]) -> tuple[dict[str, Live], set[str]]:
    """`live_jobs` for a run folder."""
    submissions = [record for record in records(paths) if record["event"] == "submit"]
    fingerprints = {stage.key: stage.fingerprint for stage in plan.stages}
    return live_jobs(run_id(paths), queue, submissions, fingerprints)


def reconcile(
    plan: Plan,
    paths: RunPaths,
    queue: Sequence[Queued],
    backend: Backend,
    exclude: Collection[str] = (),
    room: int | None = None,
) -> Outcome:
    """Submit what is neither done nor live, and have live jobs wait for what was submitted.

    The caller holds the run's lock. `exclude`: jobs to treat as gone (the caller's own). `room`: jobs
    and array tasks that may still be submitted.
    """
    outcome = Outcome()
    live, doomed = find_jobs(plan, paths, [task for task in queue if task.job not in exclude])
    if doomed:
        backend.cancel(doomed)
        outcome.lines.append(f"cancelled, could never run: {', '.join(sorted(doomed))}")
    pending = state.pending(paths, plan)
    wanted = {stage.key: _wanted(paths, plan, stage, live.get(stage.key, Live())) for stage in pending}
    arrays = array_tasks(plan, wanted, room)
    for stage in pending:
        after = {job for need in stage.needs for job in outcome.jobs.get(need, [])}
        fresh_need = any(need in outcome.submitted for need in stage.needs)
        current = live.get(stage.key, Live())
        new = _submit(plan, paths, backend, stage, arrays[stage.key], after)
        if fresh_need:
            # One that has started looks at manifests itself, and fails or heals.
            outcome.lines += [_delay(backend, stage, job, after) for job in sorted(current.waiting)]
        if new:
            outcome.submitted[stage.key] = new
            waits = f" after {', '.join(sorted(after))}" if after else ""
            outcome.lines.append(f"{stage.key}: submitted as job {', '.join(new)}{waits}")
        elif current.jobs:
            outcome.lines.append(f"{stage.key}: already queued as job {', '.join(sorted(current.jobs))}")
        outcome.jobs[stage.key] = sorted({*current.jobs, *new})
    return outcome


def _delay(backend: Backend, stage: Stage, job: str, after: Collection[str]) -> str:
    try:
        backend.set_dependency(job, after)
    except StageError as error:  # it has started in the meantime
        return f"{stage.key}: job {job} could not be made to wait: {error}"
    return f"{stage.key}: job {job} now waits for {', '.join(sorted(after))}"


def _wanted(paths: RunPaths, plan: Plan, stage: Stage, current: Live) -> list[int] | None:
    """Shards of a stage that nobody handles; [] for a stage without shards, None for no work."""
    if stage.name != "sample":
        return None if current.jobs else []
    return [s for s in state.missing_shards(paths, plan, stage) if s not in current.shards] or None


def array_tasks(plan: Plan, wanted: dict[str, list[int] | None], room: int | None) -> dict[str, list[Tasks]]:
    """Stage -> what to submit for it, a list of tasks for each job or job array. Pure.

    A task handles one shard, or several where the E-steps together would have more tasks than
    slurm.max_array_tasks or the room that the site's submit limits leave.
    """
    settings = plan.config.slurm
    sampling = [key for key, shards in wanted.items() if shards]
    most = settings.max_array_tasks
    if room is not None and sampling:
        singles = sum(shards == [] for shards in wanted.values())
        share = max(1, (room - singles) // len(sampling))
        most = min(most or share, share)
    pieces: dict[str, list[Tasks]] = {}
    for key, shards in wanted.items():
        if not shards:
            pieces[key] = [] if shards is None else [[]]
            continue
        tasks = deal(shards, min(len(shards), most or len(shards)))
        size = settings.max_array_size
        pieces[key] = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    return pieces


def deal(shards: Sequence[int], count: int) -> list[list[int]]:
    """Shards in `count` runs of neighbours whose lengths differ by at most one."""
    edges = [len(shards) * task // count for task in range(count + 1)]
    return [list(shards[start:stop]) for start, stop in itertools.pairwise(edges)]


def _submit(
    plan: Plan,
    paths: RunPaths,
    backend: Backend,
    stage: Stage,
    arrays: Sequence[Tasks],
    after: Collection[str],
) -> list[str]:
    """Record first, then submit: a launcher that dies in between leaves a job whose name still
    leads to what it covers."""
    ids: list[str] = []
    for tasks in arrays:
        submission = uuid.uuid4().hex[:8]
        record = {
            "event": "submit",
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "submission": submission,
            "stage": stage.key,
            "fingerprint": stage.fingerprint,
            "plan": plan.fingerprint,
            "shards": [list(shards) for shards in tasks],
        }
        append_line(paths.jobs, record)
        jobs = backend.submit(stage, job_name(run_id(paths), submission), tasks, after)
        append_line(paths.jobs, {"event": "submitted", "submission": submission, "jobs": jobs})
        ids += jobs
    return ids


def count_heals(paths: RunPaths, stage: Stage) -> int:
    """How often this merge has already had shards sampled again."""
    return sum(
        record["event"] == "heal" and record["fingerprint"] == stage.fingerprint for record in records(paths)
    )


def record_heal(paths: RunPaths, stage: Stage, reason: str) -> None:
    """Note that a merge is having shards sampled again.

    Raises:
        StageError: when it did so too often.
    """
    if count_heals(paths, stage) >= MAX_HEALS:
        raise StageError(f"{stage.key}: gave up after {MAX_HEALS} attempts to complete its shards: {reason}")
    append_line(
        paths.jobs,
        {"event": "heal", "stage": stage.key, "fingerprint": stage.fingerprint, "reason": reason},
    )
