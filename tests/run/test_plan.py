"""What changes when a setting changes: exactly what depends on it."""

from __future__ import annotations

import dataclasses
import functools
import json
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from lt_hpc.config.fields import walk
from lt_hpc.config.load import config_from_dict, demo_file, load_config
from lt_hpc.config.schema import Config
from lt_hpc.errors import ConfigError
from lt_hpc.run.build import build_plan, check_all_would_run, plan_from_json
from lt_hpc.run.plan import Plan, plan_to_json

SOURCES = {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"}


def make(*overrides: str, iterations: int = 2) -> Plan:
    config = load_config(demo_file(), list(overrides))
    return build_plan(config, iterations, dict(SOURCES))


def changed(*overrides: str) -> set[str]:
    before = {stage.key: stage.fingerprint for stage in make().stages}
    return {stage.key for stage in make(*overrides).stages if before[stage.key] != stage.fingerprint}


AFTER_WARM_START = {
    f"{name}-{iteration:02d}" for name in ("sample", "merge", "train", "evaluate") for iteration in (1, 2)
}


def test_another_k_redoes_what_depends_on_it() -> None:
    assert changed("sample.num_samples=4") == AFTER_WARM_START


OF_SOURCES = ("corpus", "warm", "heldout", "teacher", "benchmark", "model.path", "model.revision")
"""Sections and fields whose identity is worked out from what they name, and given to `build_plan`."""


def another(kind: Any, value: Any) -> Any:
    """Another value of a field of this type."""
    choices = [arg for arg in get_args(kind) if arg is not NoneType]
    if get_origin(kind) is Literal:
        return next(one for one in choices if one != value)
    if isinstance(value, bool):
        return not value
    return {int: lambda: (value or 1) + 1, float: lambda: (value or 0.5) / 2}[(choices or [kind])[0]]()


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, declared, _ in walk(Config())
        if not declared.execution and not name.startswith(OF_SOURCES)
    ],
)
def test_each_setting_that_decides_results_is_in_a_fingerprint(name: str) -> None:
    *sections, field = name.split(".")

    def outputs(objective: str, engine: str, changed: bool) -> set[str]:
        config = Config()
        config.objective, config.sample.engine = objective, engine  # type: ignore[assignment]
        section = functools.reduce(getattr, sections, config)
        if changed:
            value = another(get_type_hints(type(section))[field], getattr(section, field))
            setattr(section, field, value)
        stages = build_plan(config, 2 if config.objective == "em" else 1, dict(SOURCES)).stages
        return {fingerprint for stage in stages for fingerprint in stage.outputs.values()}

    cases = [("em", "torch"), ("em", "vllm"), ("raw", "torch")]
    assert any(outputs(*case, changed=True) != outputs(*case, changed=False) for case in cases)


def test_an_allocation_by_ess_begins_with_the_second_e_step() -> None:
    after = {f"{name}-02" for name in ("sample", "merge", "train", "evaluate")}
    assert changed("sample.allocation=ess") == after, "nor does it change how models are measured"
    assert "merge-01" in make("sample.allocation=ess").stage("sample-02").needs
    assert "merge-01" not in make().stage("sample-02").needs


def test_reuse_begins_with_the_second_e_step_and_takes_what_there_is() -> None:
    after = {f"{name}-02" for name in ("sample", "merge", "train", "evaluate")}
    assert changed("sample.reuse=1") == changed("sample.reuse=5") == after
    one, more = (make(f"sample.reuse={count}", iterations=3) for count in (1, 2))
    assert one.stage("sample-02").fingerprint == more.stage("sample-02").fingerprint
    assert {"sample-02", "train-01"} <= set(one.stage("sample-03").needs)
    assert "sample-01" not in one.stage("sample-03").needs
    assert {"sample-01", "train-00"} <= set(more.stage("sample-03").needs)


def test_another_selection_keeps_the_first_samples() -> None:
    assert changed("merge.method=argmax") == AFTER_WARM_START - {"sample-01"}


def test_going_on_from_the_previous_model_depends_on_it() -> None:
    assert changed("train.start=previous") == AFTER_WARM_START - {"sample-01", "merge-01"}
    restarted, continued = make(), make("train.start=previous")
    assert "train-00" not in restarted.stage("train-01").needs
    assert {"train-00", "merge-01"} <= set(continued.stage("train-01").needs)
    # Another warm start changes only the samples of a run that restarts, and every model here.
    raw = ("objective=raw", "train.start=previous")
    before, after = (
        make(*raw, f"warm_start.epochs={epochs}", iterations=1).stage("train-01") for epochs in (1, 2)
    )
    assert before.fingerprint != after.fingerprint and "train-00" in before.needs


def test_fresh_documents_are_prepared_for_each_iteration() -> None:
    plan = make("corpus.fresh=true")
    assert "corpus" not in plan.stage("prepare").outputs
    for iteration in (1, 2):
        stage = plan.stage(f"prepare-{iteration:02d}")
        assert list(stage.outputs) == [f"corpus-{iteration:02d}"] and stage.name == "prepare"
        assert stage.key in plan.stage(f"sample-{iteration:02d}").needs
        assert stage.key in plan.stage(f"train-{iteration:02d}").needs
    assert plan.output("corpus-01") != plan.output("corpus-02")
    assert plan.output("corpus-01") == make("corpus.fresh=true", iterations=1).output("corpus-01")
    assert not any(stage.key.startswith("prepare-") for stage in make().stages)


def test_stages_come_after_what_they_need() -> None:
    for overrides in ((), ("corpus.fresh=true", "train.start=previous")):
        seen: set[str] = set()
        for stage in make(*overrides).stages:
            assert set(stage.needs) <= seen, stage.key
            seen.add(stage.key)


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "local.processes=1",
        "local.train_ranks=1",
        "local.threads=4",
        "sample.num_shards=3",
        "sample.vllm.kv_cache_gb=1",
        "sample.vllm.max_num_seqs=9",  # of an engine that is not used
        "train.zero_stage=3",
        "train.micro_batch_rows=1",
        "warm_start.zero_stage=0",
        "warm_start.checkpoint_seconds=1",
        "train.checkpoint_seconds=1",
        "train.checkpoint_steps=5",
        "train.keep_checkpoints=1",
        "train.activation_checkpointing=true",
        "train.log_steps=10",
        "hardware.peak_tflops=312",
        "estimate.corpus_tokens=1000",
        "slurm.partition=other",
        "slurm.train.nodes=4",
    ],
)
def test_where_and_how_it_runs_redoes_nothing(override: str) -> None:
    assert changed(override) == set()


@pytest.mark.parametrize(
    "override", ["sample.temperature=0.9", "sample.top_p=0.9", "sample.top_k=5", "sample.prior_share=0.5"]
)
def test_another_proposal_leaves_the_evaluation_of_the_warm_start(override: str) -> None:
    """Its thoughts are drawn from the model as it is."""
    assert changed(override) == AFTER_WARM_START


def test_another_engine_also_evaluates_anew() -> None:
    assert changed("sample.engine=vllm") == AFTER_WARM_START | {"evaluate-00"}


def test_other_evaluation_settings_redo_the_evaluations_alone() -> None:
    assert changed("evaluate.num_samples=4") == {"evaluate-00", "evaluate-01", "evaluate-02"}


def test_other_training_settings_leave_the_warm_start_and_its_samples() -> None:
    assert changed("train.steps=7") == AFTER_WARM_START - {"sample-01", "merge-01"}


def test_what_changes_the_warm_start_or_the_corpus_changes_all_that_follows() -> None:
    everything = {stage.key for stage in make().stages}
    assert changed("warm_start.steps=7") == everything - {"prepare"}
    assert changed("model.context_length=256", "chunking.max_chunk_tokens=17") == everything


@pytest.mark.parametrize(("source", "kept"), [("heldout", "corpus"), ("warm", "corpus"), ("corpus", "warm")])
def test_another_corpus_has_another_fingerprint_of_its_own(source: str, kept: str) -> None:
    config = load_config(demo_file())
    before, after = make(), build_plan(config, 2, {**SOURCES, source: "other"})
    assert before.output(source) != after.output(source)
    assert before.output(kept) == after.output(kept)
    assert before.output("base") == after.output("base")


def test_another_base_model_redoes_everything() -> None:
    config = load_config(demo_file())
    after = build_plan(config, 2, {**SOURCES, "model": "other"})
    outputs = [stage.outputs for stage in after.stages]
    assert not any(
        one[folder] == other[folder]
        for one, other in zip([stage.outputs for stage in make().stages], outputs, strict=True)
        for folder in one
    )


def test_no_two_outputs_share_a_folder_or_a_fingerprint() -> None:
    outputs = [item for stage in make(iterations=3).stages for item in stage.outputs.items()]
    assert len({folder for folder, _ in outputs}) == len(outputs)
    fingerprints = {folder: fingerprint for folder, fingerprint in outputs}
    assert len(set(fingerprints.values())) == len(outputs)


def test_the_e_step_samples_from_the_model_before_it_and_training_waits_for_the_selection() -> None:
    """And whoever reads documents waits for them: they may be prepared again for a model that is done."""
    plan = make(iterations=2)
    assert set(plan.stage("sample-02").needs) == {"prepare", "train-01"}
    assert set(plan.stage("merge-02").needs) == {"prepare", "sample-02"}
    assert set(plan.stage("train-02").needs) == {"prepare", "merge-02"}
    assert set(plan.stage("evaluate-02").needs) == {"prepare", "train-02"}


def test_another_seed_redoes_everything_that_draws() -> None:
    assert changed("seed=1") == AFTER_WARM_START | {"train-00", "evaluate-00"}


def test_more_iterations_leave_the_earlier_ones_as_they_are() -> None:
    assert make(iterations=3).stages[: len(make(iterations=1).stages)] == make(iterations=1).stages


def test_a_pinned_plan_reads_back_the_same() -> None:
    plan = make()
    raw = json.loads(json.dumps(plan_to_json(plan)))
    again = plan_from_json(raw, config_from_dict(raw["config"]))
    assert again == plan and again.fingerprint == plan.fingerprint


def test_a_pinned_plan_is_named_by_all_its_settings() -> None:
    assert make().fingerprint == make().fingerprint
    assert make().fingerprint != make("local.processes=1").fingerprint
    assert make().fingerprint != make(iterations=1).fingerprint


@pytest.mark.parametrize("objective", ["raw", "warm"])
def test_a_control_trains_once_and_samples_nothing(objective: str) -> None:
    plan, em = make(f"objective={objective}", iterations=1), make(iterations=1)
    assert [stage.key for stage in plan.stages] == [
        "prepare", "train-00", "evaluate-00", "train-01", "evaluate-01",
    ]  # fmt: skip
    for shared in ("prepare", "train-00", "evaluate-00"):
        assert plan.stage(shared) == em.stage(shared)
    assert plan.stage("train-01").fingerprint != em.stage("train-01").fingerprint
    with pytest.raises(ConfigError, match=f"--iters 2: objective={objective}.*--iters 1"):
        make(f"objective={objective}", iterations=2)


def test_what_each_objective_trains_on() -> None:
    for objective, kind in (("em", "selected"), ("raw", "raw"), ("warm", "teacher")):
        plan = make(f"objective={objective}", iterations=1)
        assert plan.stage("train-00").settings["data"] == "teacher"
        assert plan.stage("train-01").settings["data"] == kind
    raw, warm = make("objective=raw", iterations=1), make("objective=warm", iterations=1)
    assert raw.stage("train-01").fingerprint != warm.stage("train-01").fingerprint


TEACHER = ("teacher.kind=openai", "teacher.model=m")


def taught(*overrides: str, prompt: str = "p") -> Plan:
    """With a teacher, whose prompt has this digest."""
    config = load_config(demo_file(), [*TEACHER, *overrides])
    return build_plan(config, 1, {**SOURCES, "teacher": {"prompt": prompt}})


def test_a_teacher_is_asked_once_for_what_the_warm_start_needs() -> None:
    plan = taught()
    assert [stage.key for stage in plan.stages][:3] == ["prepare", "synthesize-00", "train-00"]
    assert plan.stage("train-00").inputs["taught"] == plan.stage("synthesize-00").output
    assert "taught" not in plan.stage("train-01").inputs
    alone = taught("objective=warm")
    assert [stage.name for stage in alone.stages].count("synthesize") == 1
    assert alone.stage("train-01").inputs["taught"] == alone.stage("synthesize-00").output
    # The documents need no thoughts, whose limit then is not theirs.
    other = taught("sample.max_thought_tokens=20")
    assert other.output("warm") == plan.output("warm")
    assert other.stage("synthesize-00").fingerprint != plan.stage("synthesize-00").fingerprint


def test_only_what_a_teacher_answers_by_asks_it_again() -> None:
    plan = taught()

    def asks_again(other: Plan) -> bool:
        return other.stage("synthesize-00").fingerprint != plan.stage("synthesize-00").fingerprint

    for setting in ("price_prompt=1", "base_url=http://other", "concurrency=2", "num_shards=3", "retries=1"):
        assert not asks_again(taught(f"teacher.{setting}")), setting
    for setting in ("model=n", "temperature=0", "max_tokens=9", "attempts=1"):
        assert asks_again(taught(f"teacher.{setting}")), setting
    assert asks_again(taught(prompt="q"))
    assert not asks_again(taught("sample.num_samples=3", "train.steps=7"))
    assert asks_again(taught("teacher.answers=2"))
    on_the_surface = taught("objective=warm", "teacher.use=surface")
    assert not asks_again(on_the_surface), "the same thoughts"
    assert (
        on_the_surface.stage("train-00").fingerprint != taught("objective=warm").stage("train-00").fingerprint
    )


@pytest.mark.parametrize("settings", [["objective=warm"], TEACHER])
def test_answers_without_markers_are_a_baseline_of_their_own(settings: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"teacher.use=rewrite: needs .*objective=warm"):
        load_config(demo_file(), [*settings, "teacher.use=rewrite"])


def test_the_warm_start_alone_is_a_plan_and_fewer_is_not() -> None:
    assert [stage.key for stage in make(iterations=0).stages] == ["prepare", "train-00", "evaluate-00"]
    with pytest.raises(ConfigError, match="--iters -1"):
        make(iterations=-1)


def test_a_stage_that_nobody_would_run_is_no_plan() -> None:
    plan = make()
    useless = dataclasses.replace(plan.stage("merge-01"), key="merge-09", outputs={"iter-09/selected": "f"})
    with pytest.raises(ConfigError, match="merge-09 would never run"):
        check_all_would_run(Plan(plan.config, (*plan.stages, useless)))


def test_a_stage_or_folder_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"'sampel-01'.*sample-01"):
        make().stage("sampel-01")
    with pytest.raises(ConfigError, match=r"'iter-09/model'.*iter-01/model"):
        make().output("iter-09/model")


def test_longer_thoughts_change_the_warm_corpus_too() -> None:
    """From which thoughts that are too long are dropped."""
    other = make("sample.max_thought_tokens=20")
    assert other.output("warm") != make().output("warm") and other.output("corpus") == make().output("corpus")
    assert changed("sample.max_thought_tokens=20") == AFTER_WARM_START | {"train-00", "evaluate-00"}


def test_inputs_are_outputs_of_stages_that_are_waited_for() -> None:
    for overrides in ((), ("corpus.fresh=true", "train.start=previous"), ("objective=raw",)):
        plan = make(*overrides, iterations=1)
        for stage in plan.stages:
            assert {plan.producer(folder).key for folder in stage.inputs.values()} == set(stage.needs)
            assert bool(stage.shards) == stage.kind.sharded


@pytest.mark.parametrize(
    ("settings", "iterations", "expected"),
    [
        ((), 2, ["tokenise-00", "gather-00"]),
        (("objective=raw",), 1, ["tokenise-00", "gather-00"]),
        (("corpus.fresh=true",), 2, ["tokenise-01", "gather-01", "tokenise-02", "gather-02"]),
        ((), 0, []),
        (("objective=warm",), 1, []),
        (("objective=none", "heldout.num_documents=9"), 0, []),
    ],
)
def test_a_corpus_in_shards_has_stages_where_it_is_read_and_changes_no_other(
    settings: tuple[str, ...], iterations: int, expected: list[str]
) -> None:
    one, many = (make(*settings, f"prepare.num_shards={n}", iterations=iterations) for n in (1, 4))
    assert [s.key for s in many.stages if s.name in ("tokenise", "gather")] == expected
    found = {folder: value for stage in many.stages for folder, value in stage.outputs.items()}
    before = {folder: value for stage in one.stages for folder, value in stage.outputs.items()}
    read = {folder: value for folder, value in before.items() if expected or folder != "corpus"}
    assert {folder: value for folder, value in found.items() if "tokenised" not in folder} == read
    assert all(stage.shards == 4 for stage in many.stages if stage.name == "tokenise")
