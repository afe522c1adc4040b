"""Every warning is given where it should be, and not where all is well."""

from __future__ import annotations

from typing import Any

import pytest

from lt_hpc.report.warnings import warnings

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


def lines(selection: dict[str, Any], undefined: int = 0, skipped: int = 0) -> list[str]:
    row = {"iteration": 2, "chunks": 100, "bound_undefined_chunks": undefined, "skipped_steps": skipped}
    return warnings([{**row, "selection": selection}])


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
    ],
)
def test_each_finding_is_told_alone_and_with_its_iteration(changed: dict[str, Any], words: str) -> None:
    (line,) = lines({**GOOD, **changed})
    assert line.startswith("iteration 2: ") and words in line


def test_what_was_left_out_is_told() -> None:
    (line,) = lines(GOOD, skipped=3)
    assert "3 training steps were left out" in line
    (line,) = lines(GOOD, undefined=2)
    assert "leaves out 2 of 100 chunks" in line
