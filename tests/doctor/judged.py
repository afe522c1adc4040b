"""What the doctor says of a plan on a recorded site."""

from __future__ import annotations

from pathlib import Path

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.doctor import controller, partitions, work
from lt_hpc.doctor.rows import Row
from lt_hpc.run import engine_work
from lt_hpc.run.build import build_plan
from lt_hpc.run.estimate import estimate
from lt_hpc.store.paths import RunPaths
from tests.cluster.recorded import site

SOURCES = {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"}


def judged(
    name: str,
    *overrides: str,
    change: tuple[str, str] = ("", ""),
    iterations: int = 2,
    queued: int = 0,
    costs: tuple[float, float] | None = None,
    host_bytes: float | None = None,
    heads: int | None = 4,
) -> list[Row]:
    """The rows on a site, of the demo with other settings. `costs`: seconds of a checkpoint and of a step."""
    found, config = site(name, change), load_config(demo_file(), list(overrides))
    plan, nowhere = build_plan(config, iterations, SOURCES), RunPaths(Path("/nowhere"))
    rows = list(controller.rows(found))
    for kind in dict.fromkeys(stage.kind for stage in plan.stages):
        rows += partitions.rows(found, config.slurm, kind, host_bytes if kind.ranked else None)
    wanted = {stage.key: list(range(stage.shards)) if stage.kind.sharded else [] for stage in plan.stages}
    measured = {stage.key: costs for stage in plan.stages if stage.kind.ranked and costs is not None}
    pace = engine_work.throughput(plan, nowhere)
    known = work.Work(plan, estimate(plan, nowhere), wanted, queued, measured, pace, heads)
    return [*rows, *work.rows(known, found)]


def find(rows: list[Row], group: str, what: str) -> Row:
    """The only row of this kind in groups with this start."""
    (row,) = [row for row in rows if row.group.startswith(group) and row.what == what]
    return row
