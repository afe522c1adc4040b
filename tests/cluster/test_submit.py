"""What sbatch is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lt_hpc.cluster.slurm import submit
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.run.build import build_plan

PROFILES = Path(__file__).parents[2] / "configs" / "cluster"
FIELDS = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "mem": "memory",
    "gpus_per_node": "GPUs",
    "nodes": "nodes",
    "ntasks_per_node": "tasks",
    "cpus_per_task": "CPUs",
    "time": "minutes",
    "signal_delay_s": "signal",
    "array_parallelism": "parallel",
}
# Of each shipped profile: what all stages ask for, and per stage what else. What is not named is left to
# the site: sbatch is not asked for it.
JOBS: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "devcluster": (
        {"partition": "preempt", "signal": 30, "parallel": 2, "CPUs": 1},
        {
            "prepare": {"nodes": 1, "tasks": 1, "minutes": 10},
            "sample-01": {"nodes": 1, "tasks": 1, "minutes": 20},
            "merge-01": {"nodes": 1, "tasks": 1, "minutes": 10},
            "train-01": {"nodes": 2, "tasks": 2, "minutes": 30},
            "evaluate-01": {"nodes": 1, "tasks": 1, "minutes": 20},
        },
    ),
    "gpu": (
        {"partition": "gpu", "account": "myproject", "signal": 300, "parallel": 64},
        {
            "prepare": {"nodes": 1, "tasks": 1, "CPUs": 16, "memory": "64GB", "minutes": 240},
            "sample-01": {"nodes": 1, "tasks": 1, "GPUs": 1, "CPUs": 8, "memory": "64GB", "minutes": 720},
            "merge-01": {"nodes": 1, "tasks": 1, "CPUs": 8, "memory": "128GB", "minutes": 240},
            "train-01": {"nodes": 1, "tasks": 8, "GPUs": 8, "CPUs": 8, "memory": "0", "minutes": 1440},
            "evaluate-01": {"nodes": 1, "tasks": 1, "GPUs": 1, "CPUs": 8, "memory": "64GB", "minutes": 240},
        },
    ),
    "preemptible": (
        {"account": "myproject", "qos": "spot", "signal": 300, "parallel": 200, "partition": "preempt"},
        {
            "prepare": {
                "partition": "cpu",
                "nodes": 1,
                "tasks": 1,
                "CPUs": 16,
                "memory": "64GB",
                "minutes": 240,
            },
            "sample-01": {"nodes": 1, "tasks": 1, "GPUs": 1, "CPUs": 8, "memory": "64GB", "minutes": 240},
            "merge-01": {
                "partition": "cpu",
                "nodes": 1,
                "tasks": 1,
                "CPUs": 8,
                "memory": "128GB",
                "minutes": 240,
            },
            "train-01": {"nodes": 1, "tasks": 8, "GPUs": 8, "CPUs": 8, "minutes": 480},
            "evaluate-01": {"nodes": 1, "tasks": 1, "GPUs": 1, "CPUs": 8, "memory": "64GB", "minutes": 120},
        },
    ),
    "single_node": (
        {"partition": "gpu", "signal": 120, "parallel": 8, "nodes": 1},
        {
            "prepare": {"tasks": 1, "CPUs": 16, "minutes": 240},
            "sample-01": {"tasks": 1, "GPUs": 1, "CPUs": 8, "minutes": 1440},
            "merge-01": {"tasks": 1, "CPUs": 8, "minutes": 240},
            "train-01": {"tasks": 8, "GPUs": 8, "CPUs": 8, "minutes": 2880},
            "evaluate-01": {"tasks": 1, "GPUs": 1, "CPUs": 8, "minutes": 240},
        },
    ),
}


def parameters(key: str, *overrides: str, profile: Path | None = None) -> dict[str, Any]:
    config = load_config(demo_file(), list(overrides), profile)
    plan = build_plan(config, 1, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
    return submit.parameters(plan, plan.stage(key), "name", ())


def asked(found: dict[str, Any]) -> dict[str, Any]:
    return {FIELDS[name]: value for name, value in found.items() if name in FIELDS}


def test_every_shipped_profile_is_in_the_table() -> None:
    assert {path.stem for path in PROFILES.glob("*.yaml")} == set(JOBS)


@pytest.mark.parametrize("profile", JOBS)
def test_each_stage_asks_for_what_the_profile_says(profile: str) -> None:
    common, stages = JOBS[profile]
    for key, own in stages.items():
        assert asked(parameters(key, profile=PROFILES / f"{profile}.yaml")) == {**common, **own}, key


def test_a_stages_own_settings_come_before_those_of_all_stages(tmp_path: Path) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(
        "slurm:\n"
        "  {partition: p, account: a, qos: q, constraint: c, signal_seconds: 45,\n"
        "   sample: {partition: ps, account: as, qos: qs, constraint: cs, memory: 3GB},\n"
        "   train: {constraint: ct}}\n"
    )
    names = ("partition", "account", "qos", "constraint", "mem", "signal_delay_s")
    for key, expected in (
        ("sample-01", ["ps", "as", "qs", "cs", "3GB", 45]),
        ("train-01", ["p", "a", "q", "ct", None, 45]),
        ("merge-01", ["p", "a", "q", "c", None, 45]),
    ):
        found = parameters(key, profile=profile)
        assert [found.get(name) for name in names] == expected, key


def test_an_option_without_a_value_is_a_flag() -> None:
    found = parameters(
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


def test_only_ranks_fall_together_and_no_task_waits_for_the_first_to_end() -> None:
    for key, together in (("train-01", 1), ("sample-01", 0)):
        srun = parameters(key, "slurm.srun_options=[--mpi=none]")["srun_args"]
        assert srun == [f"--kill-on-bad-exit={together}", "--wait=0", "--cpus-per-task=1", "--mpi=none"]
