"""Plans of what measures models: evaluation, by one task or in shards, and benchmarks."""

from __future__ import annotations

import dataclasses

import pytest

from lt_hpc.config.schema import CorpusConfig
from lt_hpc.errors import ConfigError
from lt_hpc.run.build import build_plan
from tests.run.test_plan import make


def test_benchmarks_are_stages_of_their_own_and_change_no_other() -> None:
    tasks = "benchmark.tasks=[gsm8k]"
    plan, without = make(tasks), make()
    added = [stage for stage in plan.stages if stage.key not in {one.key for one in without.stages}]
    assert [stage.key for stage in added] == [
        f"{name}-{iteration:02d}" for iteration in (0, 1, 2) for name in ("answer", "benchmark")
    ]
    assert [stage for stage in plan.stages if stage not in added] == list(without.stages)
    assert plan.stage("answer-01").needs == ("train-01", "prepare")
    assert plan.stage("answer-01").settings["markers"]
    assert not make(tasks, "objective=raw", iterations=1).stage("answer-01").settings["markers"]
    kept = make(tasks, "benchmark.num_shards=9", "slurm.answer.minutes=3")
    assert kept.stage("benchmark-02").fingerprint == plan.stage("benchmark-02").fingerprint
    for change in ("benchmark.few_shot=3", "benchmark.thoughts=false", "benchmark.limit=9", "seed=1"):
        other = make(tasks, change)
        assert other.stage("answer-02").fingerprint != plan.stage("answer-02").fingerprint
        assert other.stage("benchmark-02").fingerprint != plan.stage("benchmark-02").fingerprint


@pytest.mark.parametrize("settings", [("objective=em",), ("objective=none", "heldout.num_documents=9")])
def test_an_evaluation_in_shards_has_the_fingerprints_of_one_task(settings: tuple[str, ...]) -> None:
    iterations = 0 if "objective=none" in settings else 2
    one, many = (make(*settings, f"evaluate.num_shards={n}", iterations=iterations) for n in (1, 4))
    measured = {f"iter-{number:02d}/measured" for number in range(iterations + 1)}
    found = {folder: value for stage in many.stages for folder, value in stage.outputs.items()}
    assert {f: v for stage in one.stages for f, v in stage.outputs.items()} == {
        folder: value for folder, value in found.items() if folder not in measured
    }
    asks, last = many.stage("measure-00"), many.stage("aggregate-00")
    assert asks.shards == 4 and asks.inputs == one.stage("evaluate-00").inputs
    assert set(last.needs) == {"measure-00", "prepare"} and asks.computes and not last.computes
    for change in ("evaluate.num_samples=3", "sample.block_chunks=9", "seed=1"):
        other = make(*settings, "evaluate.num_shards=4", change, iterations=iterations)
        assert not set(other.stage("measure-00").outputs.items()) & set(found.items()), change
        assert not set(other.stage("aggregate-00").outputs.items()) & set(found.items()), change


def test_a_model_alone_is_prepared_measured_and_benchmarked() -> None:
    plan = make("objective=none", "benchmark.tasks=[gsm8k]", iterations=0)
    assert [stage.key for stage in plan.stages] == ["prepare", "evaluate-00", "answer-00", "benchmark-00"]
    assert list(plan.stage("prepare").outputs) == ["base", "heldout"]
    assert plan.stage("evaluate-00").inputs == {"model": "base", "heldout": "heldout", "base": "base"}
    assert plan.stage("answer-00").inputs == {"model": "base", "base": "base"}
    config = dataclasses.replace(plan.config, heldout=CorpusConfig())
    without = build_plan(config, 0, {"model": "model", "benchmark": {"markers": True}})
    assert [stage.key for stage in without.stages] == ["prepare", "answer-00", "benchmark-00"]
    assert list(without.stage("prepare").outputs) == ["base"]
    with pytest.raises(ConfigError, match="--iters 1: objective=none trains nothing"):
        make("objective=none", "benchmark.tasks=[gsm8k]", iterations=1)
