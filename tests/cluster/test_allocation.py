"""What slurm/em_iter.sh runs inside its allocation, and what it remembers over a requeue."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.cluster import allocation
from lt_hpc.cluster.allocation import AllocationTasks
from lt_hpc.cluster.runner import Run
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.errors import ConfigError
from lt_hpc.run.plan import build_plan
from lt_hpc.store.paths import RunPaths

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "8"}


def test_a_requeued_job_keeps_to_the_iteration_it_set_out_for(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run")
    assert allocation.iterations_of(paths, "7") is None
    allocation.claim(paths, "7", 2)
    allocation.claim(paths, "8", 3)
    assert allocation.iterations_of(paths, "7") == 2


def test_outside_of_an_allocation_the_command_to_use_is_named() -> None:
    assert allocation.own_job(JOB) == "7"
    with pytest.raises(ConfigError, match=r"sbatch slurm/em_iter\.sh"):
        allocation.own_job({})


@pytest.mark.parametrize(
    ("key", "shards", "size", "together"),
    [
        ("train-01", [], ["--nodes=2", "--ntasks=8"], "--kill-on-bad-exit=1"),
        ("sample-01", list(range(20)), ["--nodes=2", "--ntasks=8"], "--kill-on-bad-exit=0"),
        ("sample-01", [4], ["--nodes=1", "--ntasks=1"], "--kill-on-bad-exit=0"),
        ("merge-01", [], ["--nodes=1", "--ntasks=1"], "--kill-on-bad-exit=1"),
    ],
)
def test_a_stage_takes_the_tasks_it_can_use_and_only_ranks_fall_together(
    tmp_path: Path, key: str, shards: list[int], size: list[str], together: str
) -> None:
    config = load_config(demo_file())
    plan = build_plan(config, 1, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
    tasks = AllocationTasks(plan, RunPaths(tmp_path / "run"), JOB)
    command = tasks.command(Run(plan.stage(key), 1, shards), 0)
    assert command[0] == "srun" and together in command
    assert [part for part in command if part.startswith(("--nodes", "--ntasks"))] == size
    assert (command[-2:] == ["--shards", ",".join(map(str, shards))]) == bool(shards)
