"""Every warning is given from its threshold on, and not before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lt_hpc.report.warnings import warnings
from lt_hpc.store.figures import HeldOut, Precision, SelectionStatistics
from tests.report.rows import CHANGE, held_out, iteration, selection


def test_nothing_is_said_where_all_is_well_or_nothing_is_known() -> None:
    assert warnings([iteration(), iteration(selection=None)]) == []
    unknown = iteration(held_out=HeldOut(), change=None, selection=SelectionStatistics(), skipped_steps=None)
    assert warnings([unknown]) == []
    assert warnings([iteration(selection=SelectionStatistics(weights="tempered", num_samples=4))]) == []


def precision(change: float) -> Precision:
    return Precision(9, 3, change, log_weight_deviation=0.25, log_q_deviation_per_token=0.01)


@pytest.mark.parametrize(
    ("fine", "bad", "words"),
    [
        ({"ess_mean": 1.21}, {"ess_mean": 1.19}, "collapsed to taking the largest weight"),
        ({"largest_weight_mean": 0.89}, {"largest_weight_mean": 0.91}, "91% of the weight on one thought"),
        ({"num_samples": 1, "ess_mean": 1.0}, {"num_samples": 2, "ess_mean": 1.0}, "mean ESS 1.00 of 2"),
        ({"cut_share": 0.049}, {"cut_share": 0.051, "selected_cut": 3}, "5% of the thoughts did not end"),
        ({"fallback_chunks": 0}, {"fallback_chunks": 1}, "of 1 chunks every thought was cut"),
        ({"pareto_k_pooled": 0.69}, {"pareto_k_pooled": 0.71}, "a Pareto k of 0.71, pooled over chunks"),
        (
            {"effective_different_mean": 1.51},
            {"effective_different_mean": 1.49},
            "is 1.49 different thoughts",
        ),
        ({"effective_different_mean": 1.6}, {"effective_different_mean": 1.4}, "an ESS of 3.1 of 4"),
        ({"weights": "tempered", "alpha": 0.051}, {"weights": "tempered", "alpha": 0.049}, "the power 0.05"),
        ({"alpha": 0.01}, {"weights": "tempered", "alpha": 0.01}, "the power 0.01"),
        ({"length_correlation_within": 0.49}, {"length_correlation_within": 0.51}, "prefer long thoughts"),
        ({"length_correlation_within": -0.49}, {"length_correlation_within": -0.51}, "prefer short thoughts"),
        ({"precision": precision(0.049)}, {"precision": precision(0.051)}, "sample.dtype moves 5%"),
    ],
)
def test_each_finding_of_selection_starts_at_its_threshold(
    fine: dict[str, Any], bad: dict[str, Any], words: str
) -> None:
    assert warnings([iteration(selection=selection(**fine))]) == []
    (line,) = warnings([iteration(), iteration(2, selection=selection(**bad))])
    assert line.startswith("iteration 2: ") and words in line


def test_what_was_left_out_is_told() -> None:
    (line,) = warnings([iteration(skipped_steps=3)])
    assert "3 training steps were left out" in line
    assert warnings([iteration(held_out=held_out(documents=30))]) == []
    (line,) = warnings([iteration(held_out=held_out(documents=29))])
    assert "figures are of 29 documents" in line
    (line,) = warnings([iteration(held_out=held_out(precision=precision(0.051)))])
    assert "evaluate.dtype moves 5%" in line


def test_a_bound_that_rises_alone_is_no_better_model() -> None:
    told = replace(CHANGE, verdict="cannot be told")
    (line,) = warnings([iteration(change=told)])
    assert "the bound has risen by 0.500 [0.300, 0.700]" in line and "cannot be told to be better" in line
    assert "log p(x | c) has moved by 0.250 [0.100, 0.400]" in line
    (line,) = warnings([iteration(change=replace(CHANGE, verdict="worse"))])
    assert "the model got worse" in line
    unsure = replace(told.intervals, bound=[-0.1, 0.7])
    assert warnings([iteration(change=replace(told, intervals=unsure))]) == []
    unknown = replace(told, values=replace(told.values, log_likelihood=None))
    (line,) = warnings([iteration(change=unknown)])
    assert "no estimate of log p(x | c) (evaluate.estimate_chunks)" in line


def test_what_the_tokenizer_does_not_know_and_answers_that_cannot_be_given_are_said() -> None:
    assert warnings([iteration()], {"corpus": {"tokens": 200}}) == []
    (line,) = warnings([iteration()], {"corpus": {"tokens": 200, "unknown tokens": 3}})
    assert line.startswith("corpus: 3 of 200 tokens (1.50%) are nothing that the tokenizer knows")
    assert warnings([iteration(held_out=held_out(answers_too_long=0))]) == []
    (line,) = warnings([iteration(held_out=held_out(answers_too_long=2))])
    assert "2 of 1000 answers are longer than evaluate.max_answer_tokens" in line
