"""Figures over seeds, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from lt_hpc.experiments import figure
from lt_hpc.experiments.definition import Arm, Definition
from lt_hpc.experiments.results import Results, over_seeds
from lt_hpc.experiments.tables import lines
from lt_hpc.report.changes import Change
from lt_hpc.report.rows import Benchmarked, Report
from lt_hpc.store.figures import PerMeasure, Score
from tests.report.rows import HELD_OUT, iteration

ACCURACIES = {0: 0.5, 1: 0.6, 2: 0.7}
"""By seed. Mean .6, standard deviation .1; t of 2 degrees of freedom 4.303: .6 ± 4.303 * .1 / sqrt(3)."""
DIFFERENCES = {0: 0.1, 1: 0.1, 2: 0.4}
"""Mean .2, standard deviation .1732: .2 ± 4.303 * .1."""


def report(accuracy: float, objective: str = "em") -> Report:
    row = replace(iteration(0), held_out=replace(HELD_OUT, accuracy=accuracy))
    return Report("run", "plan", {"matched": None, "objective": objective}, {}, True, [row])


def change(accuracy: float) -> Change:
    return Change(
        "better",
        None,
        PerMeasure(accuracy=accuracy),
        PerMeasure(accuracy=[0.0, 1.0]),
        documents=300,
        chunks=300,
    )


def results(seeds: list[int], **others: Report) -> Results:
    arms = {name: Arm(name, (), 0) for name in ("em", "raw", *others)}
    of = Definition(
        name="toy", size="small", title="A toy", question="Is it?", config=Path(), overrides=(), arms=arms,
        pairs=(("em", "raw"),), measures=("accuracy",), by_iteration=(), seeds=(0, 1, 2),
    )  # fmt: skip
    reports = {"em": {seed: report(ACCURACIES[seed]) for seed in seeds}}
    reports["raw"] = {seed: report(0.4) for seed in seeds}
    reports |= {name: {0: one} for name, one in others.items()}
    changes = {("em", "raw"): {seed: change(DIFFERENCES[seed]) for seed in seeds}}
    return Results(of, tuple(seeds), reports, changes)


def test_three_seeds_have_the_t_interval_of_their_values() -> None:
    text = "\n".join(lines(results([0, 1, 2])))
    assert "| em | 0 | 0.600 [0.352, 0.848] |" in text
    assert "| em – raw | +0.200 [-0.230, +0.630] | better, better, better |" in text
    assert "one seed" not in text


def test_one_seed_has_no_interval_over_seeds_and_says_so() -> None:
    text = "\n".join(lines(results([0])))
    assert "| em | 0 | 0.500 (one seed) |" in text
    assert "| em – raw | +0.100 (one seed) | better |" in text
    assert "a figure of one seed has no interval over seeds" in text


def test_the_interval_of_a_share_ends_at_all() -> None:
    share = over_seeds([0.99, 1.0, 1.0], "accuracy").interval
    other = over_seeds([0.99, 1.0, 1.0], "log_likelihood").interval
    assert share is not None and other is not None
    assert share == (pytest.approx(other[0]), 1.0) and other[1] > 1


def test_the_json_has_the_figures_of_the_table_and_of_each_seed() -> None:
    found = results([0, 1, 2]).to_json()
    accuracy = found["arms"]["em"]["figures"]["accuracy"]
    assert accuracy["value"] == pytest.approx(0.6)
    assert accuracy["interval"] == pytest.approx([0.6 - 0.24842, 0.6 + 0.24842], abs=1e-4)
    assert [rows[0]["accuracy"] for rows in found["arms"]["em"]["rows"].values()] == [0.5, 0.6, 0.7]
    assert [one["values"]["accuracy"] for one in found["pairs"][0]["by_seed"].values()] == [0.1, 0.1, 0.4]


def test_an_axis_is_that_of_the_arms_with_thoughts_and_of_others_near_it(tmp_path: Path) -> None:
    """Those of the arms with thoughts are .4 to .7."""
    low, high = figure.limits(results([0, 2], control=report(0.01, "raw")), "accuracy")
    assert (low, high) == pytest.approx((0.385, 0.715))
    low, high = figure.limits(results([0, 2], control=report(0.9, "warm")), "accuracy")
    assert (low, high) == pytest.approx((0.375, 0.925))
    figure.write(results([0, 2], control=report(0.01, "raw")), tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text().lstrip().startswith("<?xml")


TRIALS = {0: [0.4, 0.5, 0.6], 1: [0.6], 2: [0.6, 0.8]}
"""Scores in a benchmark by seed: their means are those of ACCURACIES."""


def scored(trials: list[float], reading: str = "none", number: int = 0) -> Benchmarked:
    score = Score("task", "exact_match", reading, fmean(trials), None, trials, None, 300, 0)
    return Benchmarked(number, [score], {})


def with_scores(seeds: list[int], *measures: str, **more: Any) -> Results:
    """Arms of which one scores .4 with every seed; each has another score before its last one."""
    found = results(seeds)
    values = {"em": TRIALS, "raw": {seed: [0.4] for seed in TRIALS}}
    reports = {
        arm: {
            seed: replace(
                report,
                iterations=[*report.iterations, replace(report.iterations[0], number=1)],
                benchmarks=[scored([0.1]), scored(values[arm][seed], number=1, **more)],
            )
            for seed, report in by_seed.items()
        }
        for arm, by_seed in found.reports.items()
    }
    return replace(found, definition=replace(found.definition, measures=measures), reports=reports)


def test_scores_are_means_over_trials_and_then_over_seeds() -> None:
    found = with_scores([0, 1, 2], "accuracy", "task.exact_match")
    text = "\n".join(lines(found))
    assert "| arm | iterations | accuracy | task.exact_match |" in text
    assert "| em | 0 | 0.600 [0.352, 0.848] | 0.600 [0.352, 0.848] |" in text
    assert "first the mean of its trials" in text
    # Differences of .1, .2 and .3 have the mean .2 and the standard deviation .1.
    assert "| em – raw | +0.200 [-0.230, +0.630] | +0.200 [-0.048, +0.448] | better, better, better |" in text
    assert "paired over documents within each seed; scores in benchmarks are paired by seed alone" in text
    (pair,) = found.to_json()["pairs"]
    assert pair["scores_by_seed"]["task.exact_match"] == pytest.approx({0: 0.1, 1: 0.2, 2: 0.3})
    assert pair["differences"]["task.exact_match"]["interval"] == pytest.approx([-0.0484, 0.4484], abs=1e-4)
    first = found.to_json()["arms"]["em"]["benchmarks"][0]
    assert [one["scores"][0]["trials"] for one in first] == [[0.1], TRIALS[0]]


def test_scores_alone_say_that_items_are_not_paired(tmp_path: Path) -> None:
    """Of models without any held-out measure."""
    found = with_scores([0], "task.exact_match")
    bare = {arm: {0: replace(by_seed[0], iterations=[])} for arm, by_seed in found.reports.items()}
    found = replace(found, reports=bare, changes={})
    text = "\n".join(lines(found))
    assert "first less second, scores in benchmarks are paired by seed alone, not over items" in text
    assert "| em – raw | +0.100 (one seed) | – |" in text
    figure.write(found, tmp_path / "figure.svg")
    assert figure.limits(found, "task.exact_match") == pytest.approx((0.08, 0.52))


def test_a_score_that_no_benchmark_gave_is_named_with_those_there_are() -> None:
    text = "\n".join(lines(with_scores([0], "task.acc", "task.exact_match", reading="strict")))
    assert "task.acc: no such figure, or more than one; there are task.exact_match.strict" in text
    assert "| em | 0 | – | 0.500 (one seed) |" in text
    text = "\n".join(lines(with_scores([0], "task.exact_match.none")))
    assert "| em | 0 | 0.500 (one seed) |" in text and "no such figure" not in text


def test_what_is_missing_is_named() -> None:
    text = "\n".join(lines(replace(results([0]), missing=["seed 1, em"])))
    assert text.endswith("not done: seed 1, em")
