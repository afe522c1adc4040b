"""An experiment that can't be run is refused in one line, before anything is created."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_hpc.benchmarks import harness
from lt_hpc.config.schema import ModelConfig
from lt_hpc.data import base_model
from lt_hpc.errors import ConfigError
from lt_hpc.experiment import main
from lt_hpc.experiments import definition
from lt_hpc.experiments.arms import plan_all
from lt_hpc.experiments.definition import Definition
from lt_hpc.store import manifest
from lt_hpc.store.manifest import Manifest
from tests.experiments.toy import arguments, write


def refused(path: Path | str, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """What the command says of it."""
    assert main(arguments(Path(path), out, *more)) == ConfigError.exit_code
    error = capsys.readouterr().err
    assert not out.exists()
    assert len(error.splitlines()) == 1, error
    return error


def models_before(experiment: Definition) -> list[str]:
    """The folders of models of other experiments that arms start from with seed 0."""
    said = [one for arm in experiment.arms.values() for one in arm.overrides]
    found = [one.removeprefix("model.path=") for one in said if one.startswith("model.path=")]
    return [one.replace("${seed}", "0") for one in found]


def exported(folder: Path, edit: Callable[[str], str] = str) -> Path:
    """The demo's base as a run would leave it; `edit`: of its tokenizer.json."""
    shutil.copytree(base_model.BUILTIN["builtin:demo_base"], folder)
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(edit(tokenizer.read_text()))
    files = tuple(manifest.describe(path) for path in sorted(folder.iterdir()))
    manifest.write(folder, Manifest("train", "of-another-run", True, files))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (
            "evaluate.num_samples=3",
            "evaluate.num_sample=3",
            ["arm more", "evaluate.num_sample", "num_samples"],
        ),
        (
            "evaluate.num_samples=3",
            "sample.num_samples=0",
            ["arm more", "sample.num_samples=0", "at least 1"],
        ),
        ("evaluate.num_samples=3", "nothing", ["toy.arms.more.overrides", "key=value"]),
        ("[evaluate.num_samples=3]", "{override: []}", ["toy.arms.more", "override", "overrides"]),
        ("[evaluate.num_samples=3]", "{iterations: many}", ["toy.arms.more.iterations", "many"]),
        (
            "[evaluate.num_samples=3]",
            "{iterations: 2, overrides: [objective=raw]}",
            ["arm more", "--iters 2"],
        ),
        ("evaluate.num_samples=3", "heldout.seed=7", ["pairs", "more and few", "held-out documents"]),
        ("more: ", "mo/re: ", ["arms", "mo/re", "letters"]),
        ("[[more, few]]", "[[more, fewer]]", ["pairs", "fewer", "few, more"]),
        ("[[more, few]]", "[[more]]", ["pairs", "[first, second]"]),
        ("[accuracy, ", "[acuracy, ", ["measures", "acuracy", "accuracy", "TASK.METRIC"]),
        ("[accuracy, ", "[lt_chain.acc, ", ["measures: lt_chain.acc", "few: none", "more: none"]),
        ("[accuracy, ", "[{a: b}, ", ["measures", "accuracy"]),
        ("evaluate.num_samples=3", "heldout.slices=0 of 2", ["pairs", "held-out documents"]),
        ("evaluate.num_samples=3", "chunking.max_chunk_tokens=12", ["pairs", "held-out documents"]),
        (
            "evaluate.num_samples=3",
            '"model.path=runs/experiments/em-demo/seed-${seed}/em/iter-03/model"',
            ["arm more, seed 0", "lt-hpc experiment em --size demo --seeds 0 --arms em\n"],
        ),
        (
            "evaluate.num_samples=3",
            '"model.path=elsewhere/mine-big/seed-${seed}/a/iter-01/model"',
            ["arm more, seed 0", "mine.yaml --size big --seeds 0 --arms a --out elsewhere\n"],
        ),
        ("[0, 1]", "[zero]", ["seeds", "zero"]),
        ("[0, 1]", "[]", ["seeds is missing"]),
        ("title: A toy\n", "", ["title is missing"]),
        ("title", "tittle", ["tittle", "title"]),
        ("demo.yaml", "nowhere.yaml", ["arm few", "nowhere.yaml", "no such file"]),
        ("sizes:", "sizes: []\nothers:", ["others"]),
        ("pairs: [[", "pairs: [[[", ["not YAML"]),
    ],
)
def test_a_mistake_is_named(
    old: str, new: str, named: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(write(tmp_path, old, new), tmp_path / "out", capsys)
    assert all(word in error for word in named), error


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--size", "huge"], ["--size", "huge", "toy"]),
        (["--arms", "few", "fewer"], ["--arms", "fewer", "few, more"]),
    ],
)
def test_an_unknown_argument_is_answered_with_the_valid_ones(
    more: list[str], named: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(write(tmp_path), tmp_path / "out", capsys, *more)
    assert all(word in error for word in named), error


def test_an_unknown_experiment_is_answered_with_those_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused("ems", tmp_path / "out", capsys)
    assert all(name in error for name in ("em", "samples", "teacher", "ablations", "routes", "continual"))


@pytest.mark.parametrize("name", definition.names())
def test_every_shipped_experiment_can_be_planned(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder in which those that others start from are done."""
    monkeypatch.chdir(tmp_path)
    experiment = definition.read(name, None, None)
    for folder in models_before(experiment):
        exported(tmp_path / folder)
    assert (experiment.size, experiment.seeds) == ("demo", (0, 1, 2))
    runs = plan_all(experiment, [0], tmp_path / "out")
    assert [run.arm.name for run in runs] == list(experiment.arms)
    assert {run.plan.config.seed for run in runs} == {0}
    assert not (tmp_path / "out").exists()


def compared(folder: Path, other: Path, *replaced: tuple[str, str]) -> tuple[str, str]:
    """Plan the toy with an arm that starts from another model; its pair."""
    path = write(folder, "evaluate.num_samples=3", f"model.path={other}")
    for old, new in replaced:
        path.write_text(path.read_text().replace(old, new))
    experiment = definition.read(str(path), None, None)
    plan_all(experiment, [0], folder / "out")
    return experiment.pairs[0]


def test_models_with_one_tokenizer_are_compared_and_others_by_benchmarks_alone(tmp_path: Path) -> None:
    same = exported(tmp_path / "same", lambda text: json.dumps(json.loads(text)))
    with_markers = tmp_path / "markers"
    base_model.build(ModelConfig(), with_markers)
    other = exported(tmp_path / "other", lambda text: text.replace('"+2":', '"+two":'))
    assert '"+two":' in (other / "tokenizer.json").read_text()
    for one in (same, with_markers):
        assert compared(tmp_path, one) == ("more", "few")
    with pytest.raises(ConfigError, match="more and few have other tokenizers, and accuracy, log_likelihood"):
        compared(tmp_path, other)
    scored = [
        ("[accuracy, log_likelihood]", "[lt_chain.exact_match]"),
        ("warm_start.steps=2", "'benchmark.tasks=[lt_chain]'"),
    ]
    assert compared(tmp_path, other, *scored) == ("more", "few")


def test_a_score_may_be_of_a_task_in_a_group() -> None:
    assert "mmlu_anatomy" in harness.below(["mmlu_stem", "mmlu_other"])


def test_a_seed_moves_every_draw_and_all_documents(tmp_path: Path) -> None:
    experiment = definition.read(str(write(tmp_path)), None, ["few"])
    configs = [run.plan.config for run in plan_all(experiment, [0, 1], tmp_path)]
    seeds = [(one.seed, one.corpus.seed, one.warm.seed, one.heldout.seed) for one in configs]
    assert seeds == [(0, 100, 200, 300), (1, 101, 201, 301)]


def test_the_arms_that_are_asked_for_keep_their_pairs(tmp_path: Path) -> None:
    path = str(write(tmp_path))
    assert definition.read(path, "toy", ["few"]).pairs == ()
    assert definition.read(path, "toy", ["few", "more"]).pairs == (("more", "few"),)


def test_the_teacher_has_the_documents_of_the_corpus(tmp_path: Path) -> None:
    (run,) = plan_all(definition.read("teacher", None, ["teacher"]), [3], tmp_path)
    config = run.plan.config
    assert (config.warm.seed, config.warm.num_documents) == (config.corpus.seed, config.corpus.num_documents)
