"""Reconcile: join what is done (manifests) with what is queued, submit only the rest.

Can be run again at any moment, from any node, by people and by the chain itself (a merge
that finds shards missing heals the chain before it fails). Job names carry the run and the
submission, and what a submission covers is recorded before it is made, so that one squeue
call says what every live job will do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_hpc.cluster.slurm.client import Queued
from lt_hpc.errors import StageError
from lt_hpc.kinds import NAMES as STAGES
from lt_hpc.run import state
from lt_hpc.run.plan import Plan, Stage, iteration_of
from lt_hpc.store.atomic import append_line, create_json, read_lines
from lt_hpc.store.paths import RunPaths

Tasks = Sequence[Sequence[int]]
"""The shards of each task of an array."""

MAX_HEALS = 3
"""How often one merge may have missing shards sampled again before it fails for good."""


@dataclass(frozen=True)
class Live:
    """A stage's jobs in the queue: their ids, those that have not started, the plans they were
    submitted by, the shards they handle."""

    jobs: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    plans: frozenset[str] = frozenset()
    shards: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Backend:
    """What reconcile does to the outside: submit returns job ids."""

    submit: Callable[[Stage, str, Tasks, Collection[str]], list[str]]
    set_dependency: Callable[[str, Collection[str]], None]
    cancel: Callable[[Collection[str]], None]


@dataclass(frozen=True)
class Site:
    """What a site allows: the length of an array, and how many jobs and array tasks may still be
    submitted. None: no limit."""

    array_size: int | None = None
    room: int | None = None


NO_LIMITS = Site()


@dataclass
class Outcome:
    """What one reconcile did, in order, for people."""

    lines: list[str] = field(default_factory=list)
    submitted: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[str, list[str]] = field(default_factory=dict)


def run_id(paths: RunPaths) -> str:
    """A short name for this run folder that survives renaming it; a copy of it has another one, and
    leaves the jobs of the original alone."""
    create_json(paths.run_id, uuid.uuid4().hex)
    text = f"{json.loads(paths.run_id.read_text())}:{paths.run_id.stat().st_ino}"
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def job_name(run: str, submission: str) -> str:
    return f"lt-{run}-{submission}"


def of_run(run: str, queue: Sequence[Queued], lines: Sequence[dict[str, Any]]) -> list[Queued]:
    """The jobs in the queue that work on this run: of its chain, and allocations that run it. Pure."""
    prefix, held = job_name(run, ""), allocations(run, lines)
    return [task for task in queue if task.name.startswith(prefix) or task.job in held]


def states(run: str, queue: Sequence[Queued], lines: Sequence[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Stage key -> how many of its jobs and array tasks are in which state of the queue. Pure."""
    stages = {job_name(run, line["submission"]): line["stage"] for line in lines if line["event"] == "submit"}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for task in queue:
        if task.name in stages:
            found[stages[task.name]][task.state] += 1
    return dict(found)


def allocations(run: str, lines: Sequence[dict[str, Any]]) -> set[str]:
    """Ids of the jobs that run it as a whole (em_iter.sh). Pure."""
    return {line["job"] for line in lines if line["event"] == "allocation" and line.get("run") == run}


def records(paths: RunPaths) -> list[dict[str, Any]]:
    """The lines of jobs.jsonl."""
    return read_lines(paths.jobs)


def live_jobs(
    run: str, queue: Sequence[Queued], submissions: Sequence[dict[str, Any]], plan_stages: dict[str, str]
) -> tuple[dict[str, Live], set[str]]:
    """Stage key -> its live jobs, and the jobs of this run that have to go: those that can never
    run, and those of other settings; not those of iterations beyond the plan's. Pure.

    `submissions` are the records of event "submit"; `plan_stages` maps key to fingerprint.
    """
    by_name = {job_name(run, record["submission"]): record for record in submissions}
    last = max(map(iteration_of, plan_stages), default=0)
    found: dict[str, Live] = {}
    doomed: set[str] = set()
    for task in queue:
        record = by_name.get(task.name)
        if record is None:
            continue
        key = record["stage"]
        if key not in plan_stages and iteration_of(key) > last and not task.hopeless:
            continue  # of a launch with more iterations: left alone
        if task.hopeless or plan_stages.get(key) != record["fingerprint"]:
            doomed.add(task.job if task.index is None else f"{task.job}_{task.index}")
            continue
        covered = record["shards"]
        mine = covered if task.index is None else covered[task.index : task.index + 1]
        before = found.get(key, Live())
        waiting = before.waiting | ({task.job} if task.state == "PENDING" else set())
        plans = before.plans | {record["plan"]}
        found[key] = Live(before.jobs | {task.job}, waiting, plans, before.shards.union(*mine))
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
    site: Site = NO_LIMITS,
) -> Outcome:
    """Submit what is neither done nor live, and have live jobs wait for what was submitted.

    The caller holds the run's lock. `exclude`: jobs to treat as gone (the caller's own).
    """
    outcome = Outcome()
    live, doomed = find_jobs(plan, paths, [task for task in queue if task.job not in exclude])
    if doomed:
        backend.cancel(doomed)
        outcome.lines.append(f"cancelled, could never run or of other settings: {', '.join(sorted(doomed))}")
    pending = state.pending(paths, plan)
    wanted = {stage.key: _wanted(paths, plan, stage, live.get(stage.key, Live())) for stage in pending}
    arrays = array_tasks(plan, wanted, site)
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
            outcome.lines += _asked_otherwise(plan, paths, stage, current)
        outcome.jobs[stage.key] = sorted({*current.jobs, *new})
    return outcome


def _asked_otherwise(plan: Plan, paths: RunPaths, stage: Stage, current: Live) -> Iterator[str]:
    """A line where jobs that have not started were submitted with other Slurm settings than those of now."""

    def asked(of: Plan) -> dict[str, Any]:
        others = [name for name in STAGES if name != stage.name]
        return {k: v for k, v in dataclasses.asdict(of.config.slurm).items() if k not in others}

    plans = [state.read_plan(paths.plan(name)) for name in current.plans if paths.plan(name).exists()]
    if current.waiting and any(asked(then) != asked(plan) for then in plans):
        jobs = " ".join(sorted(current.waiting))
        yield f"{stage.key}: with other slurm settings than now; to apply these: scancel {jobs}, launch again"


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


def array_tasks(plan: Plan, wanted: dict[str, list[int] | None], site: Site) -> dict[str, list[Tasks]]:
    """Stage -> what to submit for it, a list of tasks for each job or job array. Pure.

    An array task handles a shard for each process that it has (slurm.sample.tasks_per_node), or more
    where the E-steps together would have more tasks than slurm.max_array_tasks or the room that the
    site's submit limits leave.
    """
    settings = plan.config.slurm
    sampling = [key for key, shards in wanted.items() if shards]
    processes = settings.job("sample").nodes * settings.job("sample").tasks_per_node
    most = settings.max_array_tasks
    if site.room is not None and sampling:
        singles = sum(shards == [] for shards in wanted.values())
        share = max(1, (site.room - singles) // len(sampling))
        most = min(most or share, share)
    pieces: dict[str, list[Tasks]] = {}
    for key, shards in wanted.items():
        if not shards:
            pieces[key] = [] if shards is None else [[]]
            continue
        count = -(-len(shards) // processes)
        tasks = deal(shards, min(count, most or count))
        size = min(settings.max_array_size, site.array_size or settings.max_array_size)
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


def record_launch(paths: RunPaths) -> None:
    """Note that a person has launched: merges may heal as often again."""
    append_line(paths.jobs, {"event": "launch", "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")})


def count_heals(paths: RunPaths, stage: Stage, missing: int) -> int:
    """How often in a row, since the last launch, this merge has had shards sampled again without
    there being fewer to sample the next time; `missing` are those of now."""
    count, before = 0, None
    for record in records(paths):
        if record["event"] == "launch":
            count, before = 0, None
        elif record["event"] == "heal" and record["fingerprint"] == stage.fingerprint:
            count = 1 if before is None or record["missing"] < before else count + 1
            before = record["missing"]
    return 0 if before is not None and missing < before else count


def record_heal(paths: RunPaths, stage: Stage, missing: int, reason: str) -> None:
    """Note that a merge is having `missing` shards sampled again.

    Raises:
        StageError: when it did so too often in vain.
    """
    if count_heals(paths, stage, missing) >= MAX_HEALS:
        raise StageError(
            f"{stage.key}: gave up after {MAX_HEALS} attempts in which no more of its shards were completed, "
            f"{missing} are missing: {reason}"
        )
    append_line(
        paths.jobs,
        {
            "event": "heal",
            "stage": stage.key,
            "fingerprint": stage.fingerprint,
            "missing": missing,
            "reason": reason,
        },
    )
