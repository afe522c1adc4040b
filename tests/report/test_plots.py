"""What a plot shows is what the rows say, read back from the SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from lt_hpc.report import plots
from lt_hpc.store.figures import HeldOut, SelectionStatistics
from tests.report.rows import HELD_OUT, held_out, iteration, selection
from tests.report.svg import Points, panels


def near(points: Sequence[tuple[float, ...]]) -> list[object]:
    return [pytest.approx(point, abs=0.02) for point in points]


def flat(lines: list[Points]) -> Points:
    return [point for line in lines for point in line]


def test_measures_are_points_with_intervals_and_unknown_ones_are_left_out() -> None:
    better = held_out(
        accuracy=0.75, bound=None, intervals=replace(HELD_OUT.intervals, accuracy=[0.7, 0.8], bound=None)
    )
    accuracy, likelihood, bound, raw = panels(plots.measures([iteration(0), iteration(1, held_out=better)]))
    titles = [panel.texts[-1] for panel in (accuracy, likelihood, bound, raw)]
    assert titles[0] == "accuracy" and all("nats per token" in title for title in titles[1:])
    assert likelihood.lines == [near([(0, -1.25), (1, -1.25)])]
    assert accuracy.lines == [near([(0, 0.5), (1, 0.75)])]
    assert flat(accuracy.intervals) == near([(0, 0.4), (0, 0.6), (1, 0.7), (1, 0.8)])
    assert bound.lines == [near([(0, -1.5)])]
    assert flat(bound.intervals) == near([(0, -1.75), (0, -1.25)])
    assert raw.lines == [near([(0, -2.0), (1, -2.0)])], "higher is better in every panel"
    assert flat(raw.intervals)[:2] == near([(0, -2.25), (0, -1.75)])


def test_measures_of_an_older_release_without_intervals_are_no_error() -> None:
    accuracy, *others = panels(plots.measures([iteration(0), iteration(1, held_out=HeldOut(accuracy=0.5))]))
    assert len(flat(accuracy.lines)) == 2, "a point without bars"
    assert all(len(flat(panel.lines)) == 1 for panel in others)


def test_the_bound_rises_with_k_on_a_line_per_iteration() -> None:
    lower = held_out(bound_by_k=[-3.0, None, -2.0])
    (panel,) = panels(plots.bounds([iteration(0), iteration(1, held_out=lower)]), log_x=True)
    assert panel.lines[:2] == [near([(1, -2.0), (2, -1.75), (3, -1.5)]), near([(1, -3.0), (3, -2.0)])]
    assert "bound by K, nats per token" in panel.texts
    assert panel.texts[-2:] == ["iteration 0", "iteration 1"]


def test_ess_is_a_histogram_per_iteration_and_a_line_by_length() -> None:
    first, second, by_length = panels(plots.ess({1: selection(), 3: selection(ess_by_length=[])}))
    assert ("iteration 1" in first.texts, "iteration 3" in second.texts) == (True, True)
    bars = [(low, high, top) for low, high, _, top in first.bars if top > 0.01]
    assert bars == near([(1.0, 1.75, 5), (2.5, 3.25, 15), (3.25, 4.0, 10)])
    assert by_length.lines[0] == near([(4.0, 3.5), (8.0, 2.5)])
    assert "mean ESS by length" in by_length.texts


def test_weights_of_an_older_release_without_a_histogram_are_no_error() -> None:
    first, _ = panels(plots.ess({1: SelectionStatistics()}))
    assert first.bars == []


def test_costs_are_stacked_by_stage() -> None:
    sampled = {"sampled": 400, "scored": 300, "trained": 200}
    rows = [iteration(0, tokens={"trained": 100}), iteration(1, tokens=sampled)]
    tokens, seconds = panels(plots.costs(rows))
    tops = sorted(
        (round((low + high) / 2), round(bottom), round(top)) for low, high, bottom, top in tokens.bars
    )
    stacked = [(1, 0, 400), (1, 400, 700), (1, 700, 900)]
    assert [bar for bar in tops if bar[0] == 1 and bar[1] != bar[2]] == stacked
    assert (0, 0, 100) in tops
    assert {"scored", "sampled", "trained", "tokens"} <= set(tokens.texts)
    assert max(top for *_, top in seconds.bars) == pytest.approx(30, abs=0.1)
    assert {"sample", "train", "task-seconds"} <= set(seconds.texts)


def test_losses_are_a_line_per_iteration() -> None:
    (panel,) = panels(plots.losses([iteration(0), iteration(1, losses=[1.0, 0.5])]))
    assert panel.lines[:2] == [near([(0, 3.0), (1, 2.0), (2, 1.5)]), near([(0, 1.0), (1, 0.5)])]
    assert "training loss, nats per token" in panel.texts
