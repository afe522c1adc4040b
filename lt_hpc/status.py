"""python -m lt_hpc.status RUN_DIR

Says what of a run is done, running and missing, from its manifests, its progress files and the
queue, where a scheduler has jobs of it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from lt_hpc.cluster import schedulers
from lt_hpc.errors import IncompleteError, Interrupted, guarded
from lt_hpc.run import events, progress, state
from lt_hpc.run.events import Ended, described
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.run.state import Standing
from lt_hpc.store import manifest, shards
from lt_hpc.store.paths import RunPaths


def describe(
    paths: RunPaths, stage: Stage, standing: Standing, jobs: Counter[str], end: Ended | None = None
) -> str:
    """One line on a stage, the states of its `jobs`, and why it failed or was stopped."""
    found = standing.problem
    line = f"{stage.key:12} {'done' if found is None else 'to do'}"
    pinned = shards.read(paths.root / stage.output) if stage.kind.sharded else None
    if pinned is not None and pinned.samples == stage.fingerprint:
        missing = len(standing.missing)
        running = min(missing, jobs["RUNNING"] if jobs else progress.num_running(paths, stage))
        line += f"   shards: {pinned.num_shards - missing} done, {running} running, "
        line += f"{missing - running} missing"
    if jobs:
        counts = (f"{count} {name.lower()}" for name, count in sorted(jobs.items()))
        line += f"   jobs: {', '.join(counts)}"
    if found is not None:
        done, total, note = progress.of_stage(paths, stage)
        line += f"   last seen at {done}/{total} {note}" if total else ""
        if end and not jobs:
            stopped = end.code == Interrupted.exit_code
            line += f"   {'stopped' if stopped else 'FAILED'}: {described(end)}"
    return line


def verify(paths: RunPaths, plan: Plan) -> list[str]:
    """Every file of the folders that are done against its checksum; a line for each folder with a bad one,
    which is declared not done, so that the next launch that needs it makes it again."""
    return [
        str(manifest.withdrawn(folder, reason))
        for stage in plan.stages
        for folder in state.folders(paths, stage)
        if (reason := manifest.damage(folder)) is not None
    ]


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 0 when the run is complete, 1 when something is to do, 3 when --verify found
    a damaged file."""
    parser = argparse.ArgumentParser(prog="python -m lt_hpc.status", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--verify", action="store_true", help="read every file and compare its checksum")
    options = parser.parse_args(arguments)
    paths = RunPaths(options.run_dir)
    plan = state.last_plan(paths)
    queued = schedulers.states(paths)
    damaged = verify(paths, plan) if options.verify else []
    ends = events.unfinished_ends(events.read(paths))
    standings = {stage.key: state.standing(paths, stage) for stage in plan.stages}
    for stage in plan.stages:
        jobs = queued.get(stage.key, Counter())
        print(describe(paths, stage, standings[stage.key], jobs, ends.get(stage.key)))
    for line in damaged:
        print(f"damaged: {line}")
    if damaged:
        return IncompleteError.exit_code
    return 1 if state.unfinished(plan, lambda stage: standings[stage.key].problem is None) else 0


if __name__ == "__main__":
    sys.exit(main())
