"""Better, worse or cannot be told: from log-probabilities of two models on the same chunks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.report.changes import compare, judge
from lt_hpc.report.columns import in_words
from lt_hpc.report.warnings import warnings
from lt_hpc.store.measured import CORRECT, Measured
from tests.report.rows import iteration

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "self_training.json").read_text())
"""100 held-out chunks of the demo (seed 1 of an experiment, K=1): of the warm start, and after three
iterations of training on its own unweighted thoughts, the log-weights of the bound and 32 for an estimate."""


def measured(
    log_weights: np.ndarray | None, many: np.ndarray, tokens: np.ndarray, correct: np.ndarray | None = None
) -> Measured:
    count = len(tokens)
    answers = np.zeros(0, bool) if correct is None else correct
    return Measured(
        chunk=np.arange(count), document=np.arange(count), tokens=tokens, bytes=tokens, nll=2.0 * tokens,
        nll_marked=None, log_weights=log_weights, cut=None, estimated=np.arange(len(many)),
        many_log_weights=many, correct={name: answers for name in CORRECT}, correct_sampled=np.zeros((0, 0)),
        likelihood_prior=np.zeros(0),
    )  # fmt: skip


def recorded(which: str) -> Measured:
    of = RECORDED[which]
    weights, many = np.array(of["log_weights"]), np.array(of["many_log_weights"])
    return measured(weights, many, np.array(RECORDED["tokens"]))


def test_of_a_bound_that_rose_by_its_proposal_the_report_says_that_it_tells_nothing() -> None:
    change = compare(recorded("before"), recorded("after"))
    assert change.intervals.bound is not None and change.intervals.bound[0] > 0, "it rose beyond its interval"
    assert change.verdict == "cannot be told" and change.bound_misleads
    assert change.proposal is not None and change.proposal > 0, "the warm start's estimate has more to gain"
    lines = warnings([iteration(0, change=None), iteration(3, change=change)])
    assert any("the model cannot be told to be better" in line for line in lines)


def test_a_model_that_got_worse_is_called_so_whatever_its_bound() -> None:
    generator = np.random.default_rng(0)
    tokens = np.full(60, 3)
    loose = generator.normal(-4, 2.0, (60, 8)), generator.normal(-1.2, 0.3, (60, 64))
    tight = generator.normal(-1.8, 0.1, (60, 8)), generator.normal(-1.8, 0.1, (60, 64))
    change = compare(measured(*loose, tokens), measured(*tight, tokens))
    assert (change.values.bound or 0) > 0 and (change.values.log_likelihood or 0) < 0
    assert change.verdict == "worse" and change.bound_misleads
    assert compare(measured(*tight, tokens), measured(*loose, tokens)).verdict == "better"
    (line,) = warnings([iteration(1, change=change)])
    assert "the model got worse" in line


def test_knowing_where_the_prefix_ends_makes_no_model_better() -> None:
    """A model without markers also has to predict that; where it is ahead all the same, it is better."""
    tokens = np.full(60, 3)
    many = np.random.default_rng(0).normal(-2, 0.1, (60, 64))
    marked = replace(measured(None, many, tokens), nll_marked=2.0 * tokens)
    for shift, verdict, other in ((-3.0, "cannot be told", "cannot be told"), (3.0, "worse", "better")):
        raw = measured(None, many + shift, tokens)
        change = compare(raw, marked)
        assert change.one_is_marked and change.verdict == verdict
        assert compare(marked, raw).verdict == other
        assert "accuracy does" in in_words(change)
    assert "accuracy does" not in in_words(compare(marked, marked))


def test_without_an_estimate_a_bound_tells_nothing() -> None:
    tokens = np.full(60, 3)
    low, high = (measured(np.full((60, 8), value), np.zeros((0, 0)), tokens) for value in (-3.0, -1.0))
    change = compare(low, high)
    assert (change.verdict, change.proposal, change.values.bound) == (
        "cannot be told",
        None,
        pytest.approx(2 / 3),
    )


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-0.5, 0.5))
def test_the_verdict_asks_for_the_whole_interval_beyond_zero_and_the_estimates_own_gain(
    low: float, width: float, proposal: float
) -> None:
    verdict = judge((low, low + width), proposal)
    assert (verdict == "better") == (low > 0 and low > proposal)
    assert (verdict == "worse") == (low + width < 0 and low + width < proposal)
    assert judge(None, proposal) == "cannot be told"


def test_chunks_are_paired_by_their_ids_and_answers_with_them() -> None:
    tokens = np.arange(1, 7)
    right = np.array([True, False, True, False, True, True])
    before = measured(None, -1.0 * tokens[:, None], tokens, right)
    order = np.array([5, 3, 1, 0, 2, 4])
    after = measured(None, -1.0 * tokens[order][:, None], tokens[order], right[order])
    change = compare(before, replace(after, chunk=order))
    assert (change.values.log_likelihood, change.values.nll, change.values.accuracy) == (0.0, 0.0, 0.0)
    assert change.chunks == 6 and change.values.bound is None


def test_sampled_answers_are_paired_by_document() -> None:
    """As though each document were asked twice: what differs between documents is not in the interval."""
    tokens = np.full(40, 3)
    share = np.repeat([[True, False], [True, True]], 20, axis=0)
    before = replace(measured(None, np.zeros((0, 0)), tokens), correct_sampled=share)
    better = share.copy()
    better[:20, 1] = np.arange(20) % 2 == 0
    change = compare(before, replace(before, correct_sampled=better))
    assert change.values.accuracy_sampled == pytest.approx(0.125)
    low, high = change.intervals.accuracy_sampled or (0, 0)
    error = np.std(np.repeat([0.5, 0.0], [10, 30]), ddof=1) / np.sqrt(40)
    assert (high - low) / 2 == pytest.approx(2.0227 * error, rel=1e-3)
    raw = replace(before, correct_sampled=np.zeros((0, 0)))
    assert compare(raw, before).values.accuracy_sampled is None
