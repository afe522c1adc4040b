"""Tasks that share a node share its GPUs out among themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc import hardware
from lt_hpc.cluster import devices
from lt_hpc.errors import ConfigError
from lt_hpc.run import state
from tests.runs.tiny_run import tasks

FIELD = "slurm.train.gpus_per_node"


@given(st.integers(1, 16), st.integers(1, 4))
def test_as_many_tasks_as_fit_have_gpus_of_their_own(count: int, size: int) -> None:
    names = [f"GPU-{index}" for index in range(count)]
    shares = [devices.share(names, index, size) for index in range(count // size)]
    used = [name for share in shares for name in share]
    assert len(used) == len(set(used))
    assert all(len(share) == size for share in shares)


def test_more_tasks_than_gpus_take_turns_and_too_few_gpus_are_all_given() -> None:
    assert [devices.share(["0", "1"], index, 1) for index in range(3)] == [["0"], ["1"], ["0"]]
    assert devices.share(["0", "1"], 1, 4) == ["0", "1"]
    assert devices.share([], 1, 1) == []


def test_only_visible_gpus_are_shared() -> None:
    assert devices.visible({"CUDA_VISIBLE_DEVICES": "3,5"}) == ["3", "5"]
    assert devices.visible({"CUDA_VISIBLE_DEVICES": ""}) == []


def test_no_stage_falls_back_to_the_cpu_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"GPUs 0,1 are visible, but torch .* can't use them"):
        devices.require(["0", "1"], 0, FIELD, computes=True)
    with pytest.raises(ConfigError, match=r"slurm\.train\.gpus_per_node=8, but no GPU is visible"):
        devices.require([], 8, FIELD, computes=True)
    devices.require([], 0, FIELD, computes=True)


def test_a_driver_that_is_too_old_is_named_with_the_one_that_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
    (tmp_path / "version").write_text(version)
    monkeypatch.setattr(hardware, "PROC", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(ConfigError, match=r"for CUDA 13\.0.*driver 535\.183\.01 is older than the 580"):
        devices.require(["0"], 0, FIELD, computes=True)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    with pytest.raises(ConfigError, match="install a build for the driver's CUDA"):
        devices.require(["0"], 0, FIELD, computes=True)


def test_a_generation_that_torch_was_not_built_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    built = ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120", "compute_120"]
    for name, value in (
        ("is_available", True), ("device_count", 1), ("get_arch_list", built), ("get_device_name", "V100")
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    for capability, works in (
        ((7, 0), False),
        ((8, 6), True),
        ((9, 0), True),
        ((13, 0), True),
        ((7, 5), True),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        if works:
            devices.require(["0"], 1, FIELD, computes=True)
        else:
            with pytest.raises(ConfigError, match=r"V100: torch .* was built for sm_75"):
                devices.require(["0"], 1, FIELD, computes=True)
            devices.require(["0"], 1, FIELD, computes=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a torch that can use GPUs falls back nowhere")
def test_a_task_is_refused_before_its_model_is_loaded(tmp_path: Path) -> None:
    task = tasks(tmp_path)("sample-01")
    state.pin_plan(task.paths, task.plan)
    arguments = [str(task.paths.root), task.plan.fingerprint, task.stage.key, "--shards=0"]
    found = subprocess.run(
        [sys.executable, "-m", "lt_hpc.stages", *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "0,1"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == ConfigError.exit_code
    assert "GPUs 0,1 are visible" in found.stderr and "Traceback" not in found.stderr
