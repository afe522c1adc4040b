"""What manifests say of a run, for launch."""

from __future__ import annotations

from pathlib import Path

from lt_hpc import config as configuration
from lt_hpc.cluster import plan as planning
from lt_hpc.cluster import state
from lt_hpc.store import manifest
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import RunPaths


def test_a_checkpoint_slower_than_the_queues_notice_is_told_and_a_quicker_one_is_not(tmp_path: Path) -> None:
    config = configuration.load(configuration.demo_file())
    plan = planning.make(config, 2, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
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
