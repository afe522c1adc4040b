"""python -m lt_hpc.status RUN_DIR [--json] [--watch [SECONDS]] [--verify]

Says what of a run is done, running and missing, from its manifests, its progress files and the
queue, where a scheduler has jobs of it. It writes nothing, but for what --verify finds damaged.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lt_hpc.arguments import Parser
from lt_hpc.cluster import schedulers
from lt_hpc.errors import IncompleteError, guarded
from lt_hpc.run import events, state
from lt_hpc.run.events import Event, Excluded
from lt_hpc.run.overview import Row, rows
from lt_hpc.run.plan import Plan
from lt_hpc.store import manifest
from lt_hpc.store.paths import RunPaths


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 0 when the run is complete, 1 when something is to do, 3 when --verify found
    a damaged file."""
    options = parser().parse_args(arguments)
    paths = RunPaths(options.run_dir)
    while True:
        plan = state.last_plan(paths)
        damaged = verify(paths, plan) if options.verify else []
        happened = events.read(paths)
        found = _look(paths, plan, happened)
        complete = _complete(plan, found)
        excluded = events.excluded(happened)
        if options.json:
            print(_json(paths, found, damaged, excluded, complete), flush=True)
        else:
            print(_text(found, damaged, excluded), flush=True)
        if complete or damaged or not options.watch:
            return IncompleteError.exit_code if damaged else 0 if complete else 1
        time.sleep(options.watch)
        if not options.json:
            print(time.strftime("\n%H:%M:%S"), flush=True)


def parser() -> Parser:
    """Of the command line."""
    made = Parser("python -m lt_hpc.status", __doc__)
    made.add_argument("run_dir", type=Path)
    made.add_argument("--verify", action="store_true", help="read every file and compare its checksum")
    made.add_argument("--json", action="store_true", help="one object, for programs")
    made.add_argument(
        "--watch", type=float, nargs="?", const=10.0, metavar="SECONDS", help="again, until it is complete"
    )
    return made


def _look(paths: RunPaths, plan: Plan, happened: Sequence[Event]) -> list[Row]:
    """Every stage; of those that are to do and that no job makes, what became of their jobs."""
    found = rows(paths, plan, schedulers.states(paths, happened), happened)
    idle = [plan.stage(row.stage) for row in found if not row.done and not row.jobs]
    gone = schedulers.gone(paths, idle, happened)
    return [dataclasses.replace(row, gone=gone.get(row.stage, ())) for row in found]


def _complete(plan: Plan, found: Sequence[Row]) -> bool:
    done = {row.stage for row in found if row.done}
    return not state.unfinished(plan, lambda stage: stage.key in done)


def verify(paths: RunPaths, plan: Plan) -> list[str]:
    """Every file of the folders that are done against its checksum; a line for each folder with a bad one,
    which is declared not done, so that the next launch that needs it makes it again."""
    return [
        str(manifest.withdrawn(folder, reason))
        for stage in plan.stages
        for folder in state.folders(paths, stage)
        if (reason := manifest.damage(folder)) is not None
    ]


def _text(found: Sequence[Row], damaged: Sequence[str], excluded: Sequence[Excluded]) -> str:
    lines = [f"jobs leave out {one.node} since {one.time}: {one.evidence}" for one in excluded]
    return "\n".join([*map(str, found), *lines, *(f"damaged: {line}" for line in damaged)])


def _json(
    paths: RunPaths,
    found: Sequence[Row],
    damaged: Sequence[str],
    excluded: Sequence[Excluded],
    complete: bool,
) -> str:
    stages = [{**dataclasses.asdict(row), "done": row.done} for row in found]
    value = {"run": str(paths.root), "complete": complete, "stages": stages, "damaged": list(damaged)}
    return json.dumps({**value, "excluded": [dataclasses.asdict(one) for one in excluded]})


if __name__ == "__main__":
    sys.exit(main())
