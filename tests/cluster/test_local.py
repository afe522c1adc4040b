"""The processes of one machine: on its GPUs no two of them meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.cluster.local import Local
from lt_hpc.cluster.place import Place
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.run.build import build_plan
from lt_hpc.run.plan import Plan
from lt_hpc.store.paths import RunPaths


def local(folder: Path, *overrides: str) -> tuple[Local, Plan]:
    config = load_config(demo_file(), list(overrides))
    plan = build_plan(config, 1, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
    return Local(RunPaths(folder / "run"), config), plan


def gpus(launcher: Local, plan: Plan, slots: list[int]) -> str | None:
    return launcher.environment(plan, Place(), slots).get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("visible", "overrides", "slots", "ranks"),
    [
        ("", ["local.processes=3"], 3, 2),
        ("0", [], 1, 1),
        ("4,5", ["local.train_ranks=8", "local.processes=8"], 2, 2),
        ("0,1,2", ["sample.engine=vllm", "sample.vllm.tensor_parallel_size=2"], 1, 2),
    ],
)
def test_there_are_no_more_processes_than_gpus_for_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    overrides: list[str],
    slots: int,
    ranks: int,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    launcher, plan = local(tmp_path, *overrides)
    assert (launcher.slots, launcher.ranks(plan)) == (slots, ranks)


def test_tasks_side_by_side_see_other_gpus_and_training_on_all_slots_sees_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    launcher, plan = local(tmp_path, "local.processes=3", "local.train_ranks=3")
    assert [gpus(launcher, plan, [0]), gpus(launcher, plan, [1])] == ["4", "5"]
    assert gpus(launcher, plan, [0, 1, 2]) == "4,5,6"
    assert gpus(launcher, plan, [1, 2]) == "5,6", "one is still evaluating"


def test_without_gpus_nothing_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus(*local(tmp_path), [0, 1]) is None
