"""What sbatch is asked for."""

from __future__ import annotations

from pathlib import Path

from lt_hpc.cluster.slurm import submit
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.run.plan import build_plan


def parameters(folder: Path, key: str, *overrides: str) -> dict[str, object]:
    config = load_config(demo_file(), list(overrides))
    plan = build_plan(config, 1, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
    return submit.parameters(plan, plan.stage(key), "name", ())


def test_an_option_without_a_value_is_a_flag(tmp_path: Path) -> None:
    found = parameters(
        tmp_path,
        "train-01",
        "slurm.options={exclusive: true, reservation: night}",
        "slurm.train.options={nice: 10}",
    )
    assert found["additional_parameters"] == {
        "requeue": True,
        "exclusive": True,
        "reservation": "night",
        "nice": "10",
    }


def test_only_ranks_fall_together_and_no_task_waits_for_the_first_to_end(tmp_path: Path) -> None:
    for key, together in (("train-01", 1), ("sample-01", 0)):
        srun = parameters(tmp_path, key, "slurm.srun_options=[--mpi=none]")["srun_args"]
        assert srun == [f"--kill-on-bad-exit={together}", "--wait=0", "--cpus-per-task=1", "--mpi=none"]
