"""What changes when a setting changes: exactly what depends on it."""

from __future__ import annotations

import json

import pytest

from lt_hpc import config as configuration
from lt_hpc.cluster import plan as planning
from lt_hpc.cluster.plan import Plan
from lt_hpc.errors import ConfigError

SOURCES = {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"}


def make(*overrides: str, iterations: int = 2) -> Plan:
    config = configuration.load(configuration.demo_file(), list(overrides))
    return planning.make(config, iterations, dict(SOURCES))


def changed(*overrides: str) -> set[str]:
    before = {stage.key: stage.fingerprint for stage in make().stages}
    return {stage.key for stage in make(*overrides).stages if before[stage.key] != stage.fingerprint}


AFTER_WARM_START = {
    f"{name}-{iteration:02d}" for name in ("sample", "merge", "train", "evaluate") for iteration in (1, 2)
}


def test_another_k_redoes_what_depends_on_it() -> None:
    assert changed("sample.num_samples=4") == AFTER_WARM_START


def test_another_selection_keeps_the_first_samples() -> None:
    assert changed("merge.method=argmax") == AFTER_WARM_START - {"sample-01"}


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "local.processes=1",
        "sample.num_shards=3",
        "train.zero_stage=3",
        "train.micro_batch_rows=1",
        "warm_start.checkpoint_seconds=1",
        "slurm.partition=other",
        "slurm.train.nodes=4",
    ],
)
def test_where_and_how_it_runs_redoes_nothing(override: str) -> None:
    assert changed(override) == set()


def test_another_seed_redoes_everything_that_draws() -> None:
    assert changed("seed=1") == AFTER_WARM_START | {"train-00", "evaluate-00"}


def test_stages_stand_in_an_order_in_which_they_can_run() -> None:
    seen: set[str] = set()
    for stage in make(iterations=3).stages:
        assert set(stage.needs) <= seen
        seen.add(stage.key)


def test_more_iterations_leave_the_earlier_ones_as_they_are() -> None:
    assert make(iterations=3).stages[: len(make(iterations=1).stages)] == make(iterations=1).stages


def test_a_pinned_plan_reads_back_the_same() -> None:
    plan = make()
    raw = json.loads(json.dumps(planning.to_json(plan)))
    again = planning.from_json(raw, configuration.from_dict(raw["config"]))
    assert again == plan and again.fingerprint == plan.fingerprint


def test_a_control_trains_once_and_samples_nothing() -> None:
    names = {stage.name for stage in make("objective=raw", iterations=1).stages}
    assert names == {"prepare", "train", "evaluate"}
    with pytest.raises(ConfigError, match="--iters 1"):
        make("objective=raw", iterations=2)
