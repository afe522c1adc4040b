"""python -m lt_hpc.status RUN_DIR

Says what of a run is done, running and missing, from its manifests, its progress files and the
queue, where a Slurm controller has jobs of it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from lt_hpc.cluster import backend
from lt_hpc.display import reports, stage_progress
from lt_hpc.errors import LtError
from lt_hpc.run import state
from lt_hpc.run.plan import Stage
from lt_hpc.store import shards
from lt_hpc.store.paths import RunPaths

RUNNING_SECONDS = 600


def describe(paths: RunPaths, stage: Stage, jobs: Counter[str]) -> str:
    """One line on a stage and the states of its `jobs`."""
    found = state.problem(paths, stage)
    line = f"{stage.key:12} {'done' if found is None else 'to do'}"
    if stage.name == "sample":
        pinned = shards.read(paths, stage.iteration)
        if pinned is not None and pinned.samples == stage.fingerprint:
            missing = shards.problems(paths, stage.iteration, pinned, checksums=False)
            running = min(len(missing), jobs["RUNNING"] if jobs else _running(paths, stage))
            line += f"   shards: {pinned.num_shards - len(missing)} done, {running} running, "
            line += f"{len(missing) - running} missing"
    if jobs:
        counts = (f"{count} {name.lower()}" for name, count in sorted(jobs.items()))
        line += f"   jobs: {', '.join(counts)}"
    if found is not None:
        done, total, note = stage_progress(paths, stage)
        line += f"   last seen at {done}/{total} {note}" if total else ""
    return line


def _running(paths: RunPaths, stage: Stage) -> int:
    """Tasks of an E-step, each on one shard at a time, that have reported in the last minutes and
    are not at their end."""
    now = time.time()
    return sum(
        report["done"] < report["total"] and now - at < RUNNING_SECONDS
        for report, at in reports(paths, stage)
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 0 when the run is complete, 1 when something is to do."""
    parser = argparse.ArgumentParser(prog="python -m lt_hpc.status", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    paths = RunPaths(parser.parse_args(arguments).run_dir)
    try:
        plan, queued = state.pinned_plan(paths), backend.states(paths)
    except LtError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for stage in plan.stages:
        print(describe(paths, stage, queued.get(stage.key, Counter())))
    return 1 if state.pending(paths, plan) else 0


if __name__ == "__main__":
    sys.exit(main())
