"""python -m lt_hpc.stages RUN_DIR PLAN STAGE [--task I --tasks N] [--shards S,...] [--name NAME]

Runs one task of one stage of a pinned plan; under srun its place comes from Slurm. Exit
codes: see lt_hpc.errors; 75 means that it was stopped with all finished work kept.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lt_hpc.cluster import devices
from lt_hpc.cluster.signals import Supervisor, die_with_parent
from lt_hpc.errors import IncompleteError, LtError
from lt_hpc.run import state
from lt_hpc.stages.task import Progress, Task
from lt_hpc.store.paths import RunPaths


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _name(options: argparse.Namespace) -> str:
    """Of the progress file: no two tasks of a stage share one."""
    if options.name is None:
        return str(options.task)
    return options.name if options.tasks == 1 else f"{options.name}-{options.task}"


def _check_inputs(task: Task) -> None:
    """A stage may start after its needs ended in failure. A merge looks at each shard itself."""
    for need in task.stage.needs if task.stage.name != "merge" else ():
        found = state.problem(task.paths, task.plan.stage(need))
        if found is not None:
            raise IncompleteError(f"{need} is not done: {found}")


def _take_devices(task: Task) -> None:
    """Before torch looks for GPUs: a rank finds its own by LOCAL_RANK, a task of an E-step that shares
    its node sees no other."""
    index, config = devices.local_index(os.environ, task.index), task.plan.config.sample
    os.environ["LOCAL_RANK"] = str(index)
    found = devices.visible(os.environ)
    if task.stage.name == "sample" and task.count > 1 and found:
        mine = devices.share(found, index, devices.of_an_engine(config))
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)


@dataclass(frozen=True)
class Ending:
    """How a task ended: its exit code and, unless that is 0, the cause in one line."""

    code: int
    cause: str = ""


def run_task(
    supervisor: Supervisor,
    arguments: list[str] | None = None,
    announce: Callable[[Task], None] = lambda task: None,
) -> Ending:
    """Run one task of a stage; `supervisor` tells when to stop, `announce` is given the task first."""
    parser = argparse.ArgumentParser(prog="python -m lt_hpc.stages", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("plan")
    parser.add_argument("stage")
    parser.add_argument("--task", type=int, default=int(os.environ.get("SLURM_PROCID", 0)))
    parser.add_argument("--tasks", type=int, default=int(os.environ.get("SLURM_NTASKS", 1)))
    parser.add_argument("--shards", type=_numbers, default=(), help="shared by the tasks")
    parser.add_argument("--name", default=None, help="of the progress file; default: the task")
    options = parser.parse_args(arguments)
    if "LT_PARENT" in os.environ:
        die_with_parent(int(os.environ["LT_PARENT"]))
    paths = RunPaths(options.run_dir)
    try:
        plan = state.read_plan(paths.plan(options.plan))
        stage = plan.stage(options.stage)
        task = Task(
            plan,
            stage,
            paths,
            options.task,
            options.tasks,
            options.shards[options.task :: options.tasks],
            Progress(paths.progress(f"{stage.key}.{_name(options)}")),
            supervisor.stop_requested,
        )
        announce(task)
        _check_inputs(task)
        _take_devices(task)
        importlib.import_module(f"lt_hpc.stages.{stage.name}").run(task)
    except LtError as error:
        return Ending(error.exit_code, str(error))
    except Exception as error:
        traceback.print_exc()
        return Ending(1, f"{type(error).__name__}: {error}".splitlines()[0])
    return Ending(0)


def main() -> int:
    """Run one task; returns its exit code."""
    ending = run_task(Supervisor())
    if ending.code:
        print(f"exit code {ending.code}: {ending.cause}", file=sys.stderr, flush=True)
    return ending.code


if __name__ == "__main__":
    sys.exit(main())
