"""The page of a report that was made by hand: every figure, plot and text of it is there."""

from __future__ import annotations

import dataclasses
import re

import pytest

from lt_hpc.report import plots
from lt_hpc.report.page import render
from lt_hpc.report.rows import Iteration, Report
from lt_hpc.store.figures import Answer, HeldOut, Measures
from tests.store.test_figures import SELECTION

HELD_OUT = HeldOut(
    accuracy=0.25,
    nll=2.125,
    bound=-1.5,
    bound_by_k=[-1.75, -1.5],
    intervals=Measures(
        accuracy=[0.1, 0.4], nll=[2.0, 2.25], bound=[-1.6, -1.4], bound_by_k=[[-1.9, -1.6], [-1.6, -1.4]]
    ),
    bound_undefined_chunks=0,
    bound_by_k_undefined_chunks=3,
    chunks=12,
    examples=[Answer("2 < 3 & so", "yes", "think", None)],
)
FIRST = Iteration(0, HELD_OUT, None, {"trained": 100}, 0, 0, [3.0, 2.0, 1.5], {"train": 2.0})
SECOND = Iteration(
    1, dataclasses.replace(HELD_OUT, accuracy=None), SELECTION, {"sampled": 50, "trained": 100}, 2, 0, [2.5],
    {"sample": 4.0, "train": 2.0},
)  # fmt: skip
REPORT = Report(
    name="<b>run</b>",
    plan="p",
    config={
        "objective": "em", "model": {"path": "models/<x>"}, "sample": {"num_samples": 2, "engine": "torch"},
        "seed": 7, "evaluate": {"num_samples": 8},
    },
    corpora={"corpus": {"chunks": 12, "tokens": 99, "dropped: empty": 3}},
    complete=True,
    iterations=[FIRST, SECOND],
)  # fmt: skip


def page(report: Report = REPORT) -> str:
    return render(report, lambda ids: f"<thought {ids}>")


def titles(svg: str) -> set[str]:
    """The texts of a plot: matplotlib writes each as a comment beside its glyphs."""
    return set(re.findall(r"<!-- (.*?) -->", svg))


def test_what_comes_from_a_run_is_escaped() -> None:
    found = page()
    assert "<b>run</b>" not in found and "&lt;b&gt;run&lt;/b&gt;: latent thoughts" in found
    assert "models/&lt;x&gt;" in found and "&lt;thought [2]&gt;" in found and "2 &lt; 3 &amp; so" in found
    assert "corpus: 12 chunks, 99 tokens, 3 dropped: empty." in found


def test_unknown_figures_are_dashes_and_the_selected_thought_is_marked() -> None:
    found = page()
    row = "".join(f"<td>{cell}</td>" for cell in ("1", "–", "–", "–", "-1.500", "–", "0", "2.125"))
    assert row in found
    (picked,) = re.findall(r'<tr class="picked">(.*?)</tr>', found, flags=re.DOTALL)
    assert "&lt;thought [2]&gt;" in picked and "0.700" in picked and "–" in picked


def test_a_report_without_iterations_is_a_page() -> None:
    found = page(dataclasses.replace(REPORT, iterations=[]))
    assert "<svg" not in found and "<h1>" in found


def test_without_any_e_step_no_weights_are_shown() -> None:
    found = page(dataclasses.replace(REPORT, iterations=[FIRST]))
    assert "Importance weights" not in found and "Training" in found


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (plots.measures, {"accuracy", "bound, nats per token", "NLL, nats per token", "iteration"}),
        (plots.bounds, {"bound by K, nats per token", "samples K", "iteration 0 (9 of 12 chunks)"}),
        (plots.costs, {"tokens", "task-seconds", "sampled", "trained", "sample", "train"}),
        (plots.losses, {"training loss, nats per token", "iteration 0", "iteration 1"}),
    ],
)
def test_a_plot_says_what_it_shows(draw: object, expected: set[str]) -> None:
    assert expected <= titles(draw([FIRST, SECOND]))  # type: ignore[operator]


def test_plots_show_every_point_that_is_known() -> None:
    """Markers are drawn as uses of one shape."""
    accuracy, bound, nll = re.split(r'<g id="axes_\d+">', plots.measures([FIRST, SECOND]))[1:]
    drawn = [re.findall(r"<g clip-path.*?</g>", axis, flags=re.DOTALL) for axis in (accuracy, bound, nll)]
    points = [max(part.count("<use") for part in parts) for parts in drawn]
    assert points == [1, 2, 2]
    histogram = plots.ess([SECOND])
    assert {"iteration 1", "ESS of a chunk", "mean ESS by length"} <= titles(histogram)
