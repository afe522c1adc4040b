"""An experiment that can't be run is refused in one line, before anything is created."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.errors import ConfigError
from lt_hpc.experiment import main
from lt_hpc.experiments import definition
from lt_hpc.experiments.arms import plan_all
from tests.experiments.toy import arguments, write


def refused(path: Path | str, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """What the command says of it."""
    assert main(arguments(Path(path), out, *more)) == ConfigError.exit_code
    error = capsys.readouterr().err
    assert not out.exists()
    assert len(error.splitlines()) == 1, error
    return error


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
        ("[accuracy, ", "[acuracy, ", ["measures", "acuracy", "accuracy"]),
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
def test_every_shipped_experiment_can_be_planned(name: str, tmp_path: Path) -> None:
    experiment = definition.read(name, None, None)
    assert (experiment.size, experiment.seeds) == ("demo", (0, 1, 2))
    runs = plan_all(experiment, [0], tmp_path / "out")
    assert [run.arm.name for run in runs] == list(experiment.arms)
    assert {run.plan.config.seed for run in runs} == {0}
    assert not (tmp_path / "out").exists()


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
