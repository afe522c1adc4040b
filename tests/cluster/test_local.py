"""The tasks of one machine: on its GPUs no two of them meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.cluster.local import LocalTasks
from lt_hpc.cluster.runner import Run
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.run.plan import build_plan
from lt_hpc.store.paths import RunPaths


def tasks(folder: Path, *overrides: str) -> LocalTasks:
    config = load_config(demo_file(), list(overrides))
    plan = build_plan(config, 1, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
    return LocalTasks(plan, RunPaths(folder / "run"))


def sizes(local: LocalTasks) -> tuple[int, int, int]:
    """Slots, training ranks and tasks of the E-step."""
    return (
        local.slots,
        local.split(local.plan.stage("train-01"))[0],
        local.split(local.plan.stage("sample-01"))[0],
    )


def gpus(local: LocalTasks, key: str, slots: list[int]) -> str | None:
    run = Run(local.plan.stage(key), 1, [])
    return local.environment(run, slots).get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("visible", "overrides", "expected"),
    [
        ("", ["local.processes=3"], (3, 2, 3)),
        ("0", [], (1, 1, 1)),
        ("4,5", ["local.train_ranks=8", "local.processes=8"], (2, 2, 2)),
        ("0,1,2", ["sample.engine=vllm", "sample.vllm.tensor_parallel_size=2"], (1, 2, 1)),
    ],
)
def test_there_are_no_more_tasks_than_gpus_for_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    overrides: list[str],
    expected: tuple[int, int, int],
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert sizes(tasks(tmp_path, *overrides)) == expected


def test_tasks_side_by_side_see_other_gpus_and_training_on_all_slots_sees_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    local = tasks(tmp_path, "local.processes=3", "local.train_ranks=3")
    assert [gpus(local, "sample-01", [0]), gpus(local, "evaluate-00", [1])] == ["4", "5"]
    assert gpus(local, "train-01", [0, 1, 2]) == "4,5,6"
    assert gpus(local, "train-01", [1, 2]) == "5,6", "one is still evaluating"


def test_without_gpus_nothing_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus(tasks(tmp_path), "train-01", [0, 1]) is None
