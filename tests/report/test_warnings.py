"""Every warning is given where it should be, and not where all is well."""

from __future__ import annotations

from typing import Any

import pytest

from lt_hpc.report.warnings import warnings
from tests.report.rows import row

GOOD: dict[str, Any] = {
    "ess_mean": 3.1,
    "num_samples": 4,
    "largest_weight_mean": 0.4,
    "unfinished_share": 0.01,
    "fallback_chunks": 0,
    "selected_unfinished": 0,
    "pareto_k": {"chunks": 90, "median": 0.3, "share_above_0.7": 0.1},
    "weights": "exact",
    "alpha": 1.0,
    "length_correlation_within": 0.1,
    "precision": None,
}


PRECISION = {
    "chunks": 8,
    "outside_support": 0,
    "selection_change": 0.2,
    "log_weight_deviation": 0.4,
    "log_q_deviation_per_token": 0.005,
}


def precision(change: float) -> dict[str, Any]:
    return {"precision": {**PRECISION, "selection_change": change}}


def pareto(share: float) -> dict[str, float]:
    return {"chunks": 90, "median": 0.3, "share_above_0.7": share}


def lines(selection: dict[str, Any], undefined: int = 0, skipped: int = 0) -> list[str]:
    return warnings([row(selection, undefined, skipped, iteration=2)])


def test_nothing_is_said_where_all_is_well() -> None:
    assert lines(GOOD) == lines({}) == []
    assert lines({**GOOD, "pareto_k": None, "length_correlation_within": None}) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"ess_mean": 1.1}, "collapsed to taking the largest weight"),
        ({"largest_weight_mean": 0.95}, "95% of the weight on one thought"),
        ({"unfinished_share": 0.25}, "25% of the thoughts did not finish"),
        ({"fallback_chunks": 3}, "3 chunks had no finished thought at all"),
        ({"selected_unfinished": 1}, "1 unfinished thoughts were selected"),
        ({"pareto_k": {"chunks": 50, "median": 0.9, "share_above_0.7": 0.6}}, "60% of the 50 chunks"),
        ({"weights": "tempered", "alpha": 0.0}, "raised to the power 0.00"),
        ({"length_correlation_within": -0.7}, "prefer short thoughts"),
        ({"precision": PRECISION}, "moves 20% of the weight"),
    ],
)
def test_each_finding_is_told_alone_and_with_its_iteration(changed: dict[str, Any], words: str) -> None:
    (line,) = lines({**GOOD, **changed})
    assert line.startswith("iteration 2: ") and words in line


@pytest.mark.parametrize(
    ("silent", "warned"),
    [
        ({"ess_mean": 1.21}, {"ess_mean": 1.19}),
        ({"largest_weight_mean": 0.89}, {"largest_weight_mean": 0.91}),
        ({"unfinished_share": 0.049}, {"unfinished_share": 0.051}),
        ({"pareto_k": pareto(0.19)}, {"pareto_k": pareto(0.21)}),
        ({"weights": "tempered", "alpha": 0.051}, {"weights": "tempered", "alpha": 0.049}),
        ({"length_correlation_within": 0.49}, {"length_correlation_within": 0.51}),
        ({"length_correlation_within": -0.49}, {"length_correlation_within": -0.51}),
        (
            {"precision": {**PRECISION, "selection_change": 0.049}},
            {"precision": {**PRECISION, "selection_change": 0.051}},
        ),
        ({"num_samples": 1, "ess_mean": 1.0, "largest_weight_mean": 1.0}, {"ess_mean": 1.0}),
    ],
)
def test_a_warning_begins_at_its_threshold(silent: dict[str, Any], warned: dict[str, Any]) -> None:
    assert lines({**GOOD, **silent}) == []
    assert len(lines({**GOOD, **warned})) == 1


def test_what_was_left_out_is_told() -> None:
    (line,) = lines(GOOD, skipped=3)
    assert "3 training steps were left out" in line
    (line,) = lines(GOOD, undefined=2)
    assert "leaves out 2 of 100 chunks" in line
    assert lines(GOOD, undefined=1) == []


def test_figures_that_an_older_release_did_not_write_are_no_finding() -> None:
    assert lines({"num_samples": 4, "ess_mean": 3.0}) == []
