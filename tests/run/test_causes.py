"""What a user is told of why something is made again: field and values, the stage above, the file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lt_hpc.config.load import config_to_yaml, load_config
from lt_hpc.errors import ConfigError
from lt_hpc.run import causes, events, state
from lt_hpc.run.events import Ended, Submit
from lt_hpc.run.plan import Plan
from lt_hpc.store import manifest
from lt_hpc.store.paths import RunPaths
from tests.runs.finished import finished, planned

SETUP = r"slurm.setup=['cd \${HOME}']"
TEACHER = ("teacher.kind=openai", "teacher.model=one")


def told(paths: RunPaths, plan: Plan) -> dict[str, causes.Cause]:
    return causes.of_stages(paths, plan, state.pending(paths, plan))


CHANGES = {
    "sample.num_samples=32": {"sample-01": "sample.num_samples 16 -> 32"},
    "sample.top_p=0.5": {"sample-01": "sample.top_p 1.0 -> 0.5"},
    "merge.method=argmax": {"merge-01": "merge.method multinomial -> argmax"},
    "train.learning_rate=0.5": {"train-01": "train.learning_rate 0.002 -> 0.5"},
    "warm_start.learning_rate=0.5": {"train-00": "warm_start.learning_rate 0.002 -> 0.5"},
    "evaluate.num_samples=9": dict.fromkeys(("evaluate-00", "evaluate-01"), "evaluate.num_samples 8 -> 9"),
    "corpus.num_documents=7": {"prepare": "corpus.num_documents 1500 -> 7"},
    "model.resize_embeddings=false": {"prepare": "model.resize_embeddings true -> false"},
    "chunking.max_chunk_tokens=9": {"prepare": "chunking.max_chunk_tokens 16 -> 9"},
    "teacher.temperature=0.5": {"synthesize-00": "teacher.temperature 0.7 -> 0.5"},
    "sample.prior_share=0.5": {"sample-01": "sample.prior_share 0.0 -> 0.5"},
}


@pytest.mark.parametrize("override", CHANGES)
def test_a_changed_setting_is_named_where_it_enters_and_the_stage_above_elsewhere(
    override: str, tmp_path: Path
) -> None:
    before = ["model.path=a/b", *TEACHER] if override.startswith(("model", "teacher")) else []
    paths, now = finished(tmp_path, planned(*before)), planned(*before, override)
    found = told(paths, now)
    assert list(found) == [stage.key for stage in state.pending(paths, now)]
    assert {key: "; ".join(cause.own) for key, cause in found.items() if cause.own} == CHANGES[override]
    for key, cause in found.items():
        assert set(cause.above) <= set(now.stage(key).needs) & set(found)
        assert cause.own or cause.above


def test_two_settings_are_each_told_of_the_stages_that_they_concern(tmp_path: Path) -> None:
    paths = finished(tmp_path, planned())
    now = planned("sample.num_samples=2", "merge.method=uniform", "local.processes=1")
    lines = list(causes.in_words(told(paths, now)))
    assert lines == [
        "sample-01: sample.num_samples 16 -> 2",
        "merge-01: merge.method multinomial -> uniform",
        "made from these: train-01 (from merge-01), evaluate-01 (from train-01)",
    ]
    assert causes.differences(planned().config, now.config) == (
        ["sample.num_samples 16 -> 2", "merge.method multinomial -> uniform"],
        ["local.processes 2 -> 1"],
    )


def test_settings_that_go_together_are_told(tmp_path: Path) -> None:
    paths = finished(tmp_path, planned())
    found = told(paths, planned("objective=raw"))
    assert found["train-01"].own == ("objective em -> raw",)


def test_a_setting_is_compared_with_what_the_folder_was_made_with_not_with_the_last_launch(
    tmp_path: Path,
) -> None:
    paths = finished(tmp_path, planned())
    state.pin_plan(paths, planned("sample.num_samples=3"))
    assert told(paths, planned("sample.num_samples=5"))["sample-01"].own == ("sample.num_samples 16 -> 5",)


def test_where_no_setting_changed_it_is_the_content_or_a_plan_that_is_gone(tmp_path: Path) -> None:
    paths, now = finished(tmp_path, planned()), planned(content="edited")
    assert told(paths, now)["prepare"].own == (causes.CONTENT,)
    for file in paths.plans.iterdir():
        file.unlink()
    assert told(paths, now)["prepare"].own == (causes.UNKNOWN,)


def test_a_damaged_and_a_missing_file_are_named_and_work_in_progress_is_none(tmp_path: Path) -> None:
    plan = planned()
    paths = finished(tmp_path, plan)
    (paths.model(1) / "result").unlink()
    (paths.selected(1) / manifest.NAME).write_text("{")
    (paths.evaluation(0) / "result").write_text("longer than it was")
    (paths.evaluation(1) / manifest.NAME).unlink()
    found = {key: str(cause) for key, cause in told(paths, plan).items()}
    assert set(found) == {"merge-01", "train-01", "evaluate-00"}
    assert "iter-01/model/result is missing" in found["train-01"]
    assert "iter-01/selected has a manifest that can not be read" in found["merge-01"]
    assert "iter-00/eval/result has 18 bytes, its manifest says" in found["evaluate-00"]


def test_shards_that_went_bad_are_named_and_those_to_come_are_not(tmp_path: Path) -> None:
    plan = planned()
    paths = finished(tmp_path, plan)
    for folder in (paths.selected(1), paths.model(1)):
        (folder / manifest.NAME).unlink()
    first, second = state.folders(paths, plan.stage("sample-01"))
    (second / manifest.NAME).unlink()
    assert "sample-01" not in told(paths, plan)
    (first / manifest.NAME).write_text("")
    assert "shard-00000 has a manifest" in str(told(paths, plan)["sample-01"])


@pytest.mark.parametrize("of_now", [True, False])
def test_a_folder_that_is_gone_is_told_where_it_was_made_with_the_present_settings(
    tmp_path: Path, of_now: bool
) -> None:
    plan = planned()
    paths = finished(tmp_path, plan)
    (paths.model(1) / manifest.NAME).unlink()
    (paths.model(1) / "result").unlink()
    paths.model(1).rmdir()
    made = plan.stage("train-01").fingerprint if of_now else "another"
    events.record(paths, Submit(submission="1", stage="train-01", fingerprint=made, plan="p", shards=[]))
    events.record(paths, Ended(stage="train-01", task="train-01.0", code=0))
    assert ("train-01" in told(paths, plan)) is of_now


def test_what_is_moved_is_said_with_the_setting(tmp_path: Path) -> None:
    paths, now = finished(tmp_path, planned()), planned("merge.method=argmax")
    state.pin_plan(paths, now)
    lines = causes.move(paths, now, state.pending(paths, now))
    assert [line.split(" -> ")[0] for line in lines] == [
        "moved: iter-01/selected", "moved: iter-01/model", "moved: iter-01/eval"
    ]  # fmt: skip
    assert lines[0].endswith("(merge-01: merge.method multinomial -> argmax)")
    assert lines[1].endswith("(train-01: made from merge-01, to be made again)")
    assert not paths.selected(1).exists() and len(list(paths.superseded.iterdir())) == 3


def test_secrets_are_not_told() -> None:
    token = "hf_" + "a" * 30
    before, now = planned().config, planned().config
    now = dataclasses.replace(now, slurm=dataclasses.replace(now.slurm, setup=[f"export HF_TOKEN={token}"]))
    (line,) = causes.differences(before, now)[1]
    assert line.startswith("slurm.setup [] -> ") and token not in line


def test_a_run_goes_on_with_the_configuration_of_its_last_launch(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert state.own_config(paths) is None
    plans = [planned("sample.num_samples=5"), planned("sample.num_samples=6", SETUP)]
    for plan in plans:
        state.pin_plan(paths, plan)
    assert state.own_config(paths) == (plans[1].config, []), "config.yaml need not be there"
    paths.config.write_text(config_to_yaml(plans[0].config))
    assert state.own_config(paths) == (plans[1].config, []), "killed before config.yaml was written anew"
    own = load_config(None, ["sample.num_samples=7"], base=plans[1].config)
    assert (own.sample.num_samples, own.slurm.setup) == (7, ["cd ${HOME}"])


def test_a_config_that_was_edited_by_hand_is_neither_ignored_nor_taken_silently(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    plan = planned()
    state.pin_plan(paths, plan)
    text = config_to_yaml(plan.config)
    paths.config.write_text(text.replace("num_samples: 16", "num_samples: 17"))
    with pytest.raises(ConfigError, match=rf"--config {paths.config}"):
        state.own_config(paths)


@pytest.mark.parametrize("damage", ["", "{", "a: [1]\n"])
def test_of_the_plan_and_the_config_each_makes_up_for_the_other(tmp_path: Path, damage: str) -> None:
    paths, plan = RunPaths(tmp_path), planned("sample.num_samples=5")
    state.pin_plan(paths, plan)
    paths.config.write_text(damage)
    found = state.own_config(paths)
    assert found is not None and found[0] == plan.config and str(paths.config) in found[1][0]
    for record in (paths.plan(plan.fingerprint), paths.last_plan):
        state.pin_plan(paths, plan)
        paths.config.write_text(config_to_yaml(plan.config))
        record.write_text(damage)
        found = state.own_config(paths)
        assert found is not None and found[0] == plan.config and str(record) in found[1][0]
        paths.config.write_text(damage)
        with pytest.raises(ConfigError, match="give --config"):
            state.own_config(paths)
