"""python -m lt_hpc.stages RUN_DIR PLAN STAGE [--shards S,...] [--name NAME]

Runs one task of one stage of a pinned plan; its place among the tasks comes from whoever started it.
Exit codes: see lt_hpc.errors; 75 means that it was stopped with all finished work kept.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lt_hpc.cluster import devices, schedulers
from lt_hpc.cluster.place import Place
from lt_hpc.cluster.signals import Supervisor, die_with_parent, fail
from lt_hpc.errors import FILE_ERROR, HardwareError, Interrupted, LtError, explained
from lt_hpc.run import state
from lt_hpc.run.progress import Progress
from lt_hpc.stages.task import Task
from lt_hpc.store.paths import RunPaths


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _name(given: str | None, place: Place) -> str:
    """Of the progress file: no two tasks of a stage share one."""
    if given is None:
        return str(place.rank)
    return given if place.count == 1 else f"{given}-{place.rank}"


def _take_devices(task: Task) -> None:
    """Before torch looks for GPUs: a rank finds its own by LOCAL_RANK, a task that shares its node with
    others sees no other.

    Raises:
        ConfigError: when a stage that computes with a model would fall back to the CPU unasked.
    """
    index = task.place.local_rank
    os.environ["LOCAL_RANK"] = str(index)
    found = devices.visible(os.environ)
    if task.stage.kind.sharded and task.place.count > 1 and found:
        mine = devices.share(found, index, task.plan.config.sample.devices_per_engine)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    asked = task.plan.config.slurm.job(task.stage.name).gpus_per_node if task.place.job else 0
    if task.stage.computes:
        computes = task.stage.kind.ranked or task.plan.config.sample.engine == "torch"
        if computes and found and "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
            # Rows, groups of documents and logits differ in size at every step; before torch is imported.
            os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
        devices.require(found, asked, f"slurm.{task.stage.name}.gpus_per_node", computes)


_OBJECTS = 20_000
"""That a task makes before Python looks for garbage among the newest; its own default is 700."""
_UNUSED = ("sklearn", "scipy")
"""What transformers imports where it is installed, for a way of generating and for losses on images."""


def _start_fast(task: Task) -> None:
    """Leave out what a third of a task's start goes to: packages that nothing here uses, though
    lm-evaluation-harness needs them, and looking for garbage among all that is imported, which stays."""
    gc.set_threshold(_OBJECTS)
    if not task.stage.kind.harness and not task.plan.config.model.trust_remote_code:
        for name in _UNUSED:
            sys.modules.setdefault(name, None)  # type: ignore[arg-type]


_DISK_FULL = f"(os error {errno.ENOSPC})"
"""What libraries in Rust, safetensors among them, say of a full disk in errors of their own."""


@dataclass(frozen=True)
class Ending:
    """How a task ended: its exit code and, unless that is 0, the cause in one line."""

    code: int
    cause: str = ""


def run_task(
    supervisor: Supervisor,
    place: Place,
    arguments: list[str] | None = None,
    announce: Callable[[Task], None] = lambda task: None,
) -> Ending:
    """Run one task of a stage; `supervisor` says when to stop, `announce` is given the task first."""
    parser = argparse.ArgumentParser(prog="python -m lt_hpc.stages", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("plan")
    parser.add_argument("stage")
    parser.add_argument("--shards", type=_numbers, default=(), help="shared by the tasks")
    parser.add_argument("--name", default=None, help="of the progress file; default: the rank")
    options = parser.parse_args(arguments)
    paths = RunPaths(options.run_dir)
    try:
        plan = state.read_plan(paths.plan(options.plan))
        stage = plan.stage(options.stage)
        task = Task(
            plan=plan,
            stage=stage,
            paths=paths,
            place=place,
            shards=options.shards[place.rank :: place.count],
            progress=Progress(
                paths.progress(f"{stage.key}.{_name(options.name, place)}"), began=supervisor.began
            ),
            should_stop=supervisor.stop_requested,
        )
        announce(task)
        _take_devices(task)
        _start_fast(task)
        task.check_inputs()
        importlib.import_module(f"lt_hpc.stages.{stage.kind.name}").run(task)
    except LtError as error:
        if isinstance(error, HardwareError) and supervisor.stop_requested():
            # What was told to stop this process has reached others first, which it needs.
            return Ending(Interrupted.exit_code, f"stopped while it was at work: {error}")
        return Ending(error.exit_code, str(error))
    except OSError as error:
        return Ending(FILE_ERROR, explained(error))
    except Exception as error:
        if _DISK_FULL in str(error):
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(options.run_dir))
            return Ending(FILE_ERROR, explained(full))
        traceback.print_exc()
        return Ending(1, f"{type(error).__name__}: {error}".splitlines()[0])
    return Ending(0)


def main() -> None:
    """Run one task."""
    place = schedulers.here(os.environ)
    if place.parent is not None:
        die_with_parent(place.parent)
    ending = run_task(Supervisor(), place)
    if ending.code:
        fail(ending.code, ending.cause)


if __name__ == "__main__":
    main()
