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

from lt_hpc.cluster import devices
from lt_hpc.errors import ConfigError
from lt_hpc.run import state
from tests.runs.tiny_run import tasks


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
        devices.require(["0", "1"], 0, "slurm.train.gpus_per_node")
    with pytest.raises(ConfigError, match=r"slurm\.train\.gpus_per_node=8, but no GPU is visible"):
        devices.require([], 8, "slurm.train.gpus_per_node")
    devices.require([], 0, "slurm.train.gpus_per_node")


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
