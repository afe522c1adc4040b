"""What manifests say of a run, for launch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.launch import make_plan
from lt_hpc.run import state
from lt_hpc.run.build import build_plan
from lt_hpc.store import manifest
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import RunPaths


def test_a_checkpoint_slower_than_the_queues_notice_is_told_and_a_quicker_one_is_not(tmp_path: Path) -> None:
    config = load_config(demo_file())
    plan = build_plan(config, 2, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
    paths = RunPaths(tmp_path)
    assert state.slow_checkpoints(paths, plan, 60, "GraceTime=60") == []
    for iteration, seconds in ((0, 40.0), (1, 57.0)):
        folder = paths.model(iteration)
        folder.mkdir(parents=True)
        cost = {"seconds": seconds, "blocked_seconds": 1.0, "bytes": 10}
        statistics = {"checkpoint": cost, "longest_step_seconds": 6.0}
        manifest.write(folder, Manifest("model", "f", True, (), statistics=statistics))
    (warning,) = state.slow_checkpoints(paths, plan, 60, "GraceTime=60")
    assert "train-01" in warning and "57 s" in warning and "60 s of notice (GraceTime=60)" in warning


def test_results_of_settings_that_come_and_go_are_all_kept(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)

    def use(seed: int) -> None:
        config = load_config(demo_file(), [f"seed={seed}"])
        plan = build_plan(config, 0, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
        stage = plan.stage("train-00")
        state.move_superseded(paths, [stage])
        paths.model(0).mkdir(parents=True)
        (paths.model(0) / "result").write_text(f"seed {seed}, number {len(kept())}")
        manifest.write(paths.model(0), Manifest("model", stage.fingerprint, True, ()))

    def kept() -> list[str]:
        return sorted(path.read_text() for path in paths.superseded.rglob("result"))

    for seed in (1, 2, 1, 2):
        use(seed)
    assert kept() == ["seed 1, number 0", "seed 1, number 2", "seed 2, number 1"]


@pytest.mark.parametrize(
    ("done", "expected"), [((), 1), ((0,), 1), ((0, 1), 2), ((0, 1, 2, 3, 4, 5), 6), ((0, 1, 3), 2)]
)
def test_next_is_the_first_iteration_that_is_not_done(
    tmp_path: Path, done: tuple[int, ...], expected: int
) -> None:
    paths, config = RunPaths(tmp_path), load_config(demo_file())
    for stage in make_plan(config, 6, paths).stages:
        for folder, fingerprint in stage.outputs.items() if stage.iteration in done else ():
            manifest.write(tmp_path / folder, Manifest("any", fingerprint, True, ()))
    found = make_plan(config, None, paths)
    assert found.iterations == expected
    assert found.fingerprint == make_plan(config, expected, paths).fingerprint


def test_samples_deleted_after_their_model_was_trained_are_not_missed(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    plan = build_plan(load_config(demo_file()), 1, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})

    def pending() -> list[str]:
        return [stage.key for stage in state.pending(paths, plan)]

    assert pending() == [stage.key for stage in plan.stages] and not state.Look(paths).complete(plan)
    for stage in plan.stages:
        for folder, fingerprint in stage.outputs.items() if not stage.kind.sharded else ():
            (tmp_path / folder).mkdir(parents=True)
            manifest.write(tmp_path / folder, Manifest("any", fingerprint, True, ()))
    assert pending() == [] and state.Look(paths).complete(plan)
    shutil.rmtree(paths.model(1))
    assert pending() == ["train-01"], "the selection is there"
    shutil.rmtree(paths.selected(1))
    assert pending() == ["sample-01", "merge-01", "train-01"]
