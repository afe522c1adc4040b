"""What slurm/em_iter.sh runs inside its allocation, and what it remembers over a requeue."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lt_hpc.cluster import schedulers
from lt_hpc.cluster.slurm.environment import Allocation
from lt_hpc.cluster.slurm.steps import Steps
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.errors import ConfigError
from lt_hpc.launch import _claimed_plan
from lt_hpc.run.build import build_plan
from lt_hpc.store.paths import RunPaths

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "8"}


def test_a_requeued_job_keeps_to_the_iteration_it_set_out_for(tmp_path: Path) -> None:
    paths, config = RunPaths(tmp_path / "run"), load_config(demo_file())
    assert _claimed_plan(config, 2, paths, "7").iterations == 2
    assert _claimed_plan(config, 3, paths, "8").iterations == 3
    assert _claimed_plan(config, 1, paths, "7").iterations == 2


def test_outside_of_an_allocation_the_command_to_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ConfigError, match=r"sbatch slurm/em_iter\.sh"):
        schedulers.choose("allocation")


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
    allocation = Allocation.of(JOB)
    assert allocation is not None and allocation.job == "7"
    command = Steps(RunPaths(tmp_path / "run"), allocation).command(plan, plan.stage(key), shards)
    assert command[0] == "srun" and together in command
    assert [part for part in command if part.startswith(("--nodes", "--ntasks"))] == size


@pytest.mark.parametrize(("partition", "seconds"), [("preempt", 10), ("calm", 270)])
def test_a_partition_that_preempts_sooner_decides_the_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partition: str, seconds: float
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        "#!/bin/sh\necho PartitionName=preempt Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=10\n"
        "echo PartitionName=calm Default=NO PriorityTier=10 PreemptMode=OFF GraceTime=0\n"
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    allocation = Allocation.of({**JOB, "SLURM_JOB_PARTITION": partition})
    assert allocation is not None
    plan = build_plan(load_config(demo_file()), 0, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
    notice = Steps(RunPaths(tmp_path / "run"), allocation).notice(plan)
    assert notice.seconds == seconds and (partition in notice.source) == (seconds == 10)
