"""Bad nodes: which ones the jobs of a run that have not started leave out, and a record of why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from lt_hpc.cluster.scheduler import Scheduler
from lt_hpc.errors import StageError
from lt_hpc.run import events, nodes
from lt_hpc.run.events import Excluded
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths


def leave_out(
    plan: Plan,
    paths: RunPaths,
    scheduler: Scheduler,
    fresh: Sequence[Stage],
    waiting: Mapping[str, Collection[str]],
) -> tuple[Mapping[str, Sequence[str]], list[str]]:
    """Stage key -> nodes that its new jobs are to leave out, of stages that are about to be submitted; jobs
    that are waiting, by their stages, are told. And a line for each node. The caller holds the run's lock."""
    stages = [*fresh, *(plan.stage(key) for key in waiting if key not in {one.key for one in fresh})]
    if not stages or not plan.config.slurm.excluded_share:
        return {}, []
    happened = events.read(paths)
    found = nodes.suspects(happened)
    if not found:
        return {}, []
    spared = scheduler.spared(plan, stages, [one.node for one in found])
    if not spared:  # it has no nodes to choose from
        return {}, []
    known = {(one.node, one.evidence) for one in happened if isinstance(one, Excluded)}
    lines = list(_tell(scheduler, spared, waiting))
    for one in found:
        if any(one.node in names for names in spared.values()):
            if (one.node, one.evidence) not in known:
                events.record(paths, Excluded(node=one.node, evidence=one.evidence))
            lines.append(f"jobs that have not started leave out {one.node}: {one.evidence}")
        else:
            share = plan.config.slurm.excluded_share
            lines.append(f"{one.node} stays in use (slurm.excluded_share={share:g}): {one.evidence}")
    return spared, lines


def _tell(
    scheduler: Scheduler, spared: Mapping[str, Sequence[str]], waiting: Mapping[str, Collection[str]]
) -> Iterator[str]:
    """Have waiting jobs of stages leave out their nodes; a line where that failed."""
    groups: dict[tuple[str, ...], set[str]] = {}
    for key, jobs in waiting.items():
        if spared.get(key):
            groups.setdefault(tuple(spared[key]), set()).update(jobs)
    for names, jobs in groups.items():
        try:
            scheduler.avoid(jobs, names)
        except StageError as error:  # one of them has started in the meantime
            yield f"not all of jobs {', '.join(sorted(jobs))} were told to leave out nodes: {error}"
