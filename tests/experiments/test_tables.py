"""Figures over seeds, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lt_hpc.experiments import figure
from lt_hpc.experiments.definition import Arm, Definition
from lt_hpc.experiments.results import Results
from lt_hpc.experiments.tables import lines
from lt_hpc.report.changes import Change
from lt_hpc.report.rows import Report
from lt_hpc.store.figures import PerMeasure
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


def test_what_is_missing_is_named() -> None:
    text = "\n".join(lines(replace(results([0]), missing=["seed 1, em"])))
    assert text.endswith("not done: seed 1, em")
