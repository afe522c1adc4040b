"""Held-out figures from measures whose figures are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lt_hpc.stages import metrics
from lt_hpc.store.measured import CORRECT, Measured

UNANSWERED = {name: np.zeros(0, bool) for name in CORRECT}


def measured(
    log_weights: np.ndarray | None,
    tokens: np.ndarray,
    document: np.ndarray | None = None,
    many: np.ndarray | None = None,
) -> Measured:
    """Chunks of two bytes per token; the first ones, as many as there are `many` log-weights for, with an
    estimate of log p(x | c)."""
    return Measured(
        chunk=np.arange(len(tokens)),
        document=np.arange(len(tokens)) if document is None else document,
        tokens=tokens,
        bytes=2 * tokens,
        nll=3.0 * tokens,
        nll_marked=None if log_weights is None else 1.0 * tokens,
        log_weights=log_weights,
        cut=None if log_weights is None else np.ones(len(tokens), int),
        estimated=np.arange(0 if many is None else len(many)),
        many_log_weights=np.zeros((0, 0)) if many is None else many,
        correct=UNANSWERED,
        correct_sampled=np.zeros((0, 0)),
        likelihood_prior=np.zeros(0),
    )


def test_figures_are_sums_over_sums_of_tokens_and_bytes() -> None:
    tokens = np.array([2, 6])
    many = np.log([[0.5, 0.1], [0.2, 0.2]])
    found = metrics.summary(measured(np.log([[0.5, 0.25], [0.1, 0.3]]), tokens, many=many), "thought")
    assert (found.nll, found.nll_per_byte) == (3.0, 1.5)
    assert (found.nll_marked, found.nll_marked_per_byte) == (1.0, 0.5)
    bound = (np.log(0.375) + np.log(0.2)) / 8
    assert (found.bound, found.bound_per_byte) == pytest.approx((bound, bound / 2))
    single = (np.log(0.5 * 0.25) / 2 + np.log(0.1 * 0.3) / 2) / 8
    assert found.bound_by_k == pytest.approx([single, bound])
    assert found.bound_gain == pytest.approx(bound - single)
    estimate = (np.log(0.3) + np.log(0.2)) / 8
    assert found.log_likelihood == pytest.approx(estimate)
    assert found.log_likelihood_gain == pytest.approx(estimate - (np.log(0.05) / 2 + np.log(0.04) / 2) / 8)
    assert found.bound_gap == pytest.approx(estimate - bound)
    ess = np.mean([0.75**2 / (0.25 + 0.0625), 0.4**2 / (0.01 + 0.09)])
    assert found.ess_mean == pytest.approx(ess)
    assert found.cut_share == 0.5
    assert (found.chunks, found.documents, found.tokens, found.bytes) == (2, 2, 8, 16)
    assert (found.estimate_chunks, found.estimate_samples) == (2, 2)
    assert found.accuracy is None and found.intervals.accuracy is None


def test_a_model_without_markers_has_no_bound_but_its_likelihood_in_the_same_column() -> None:
    tokens = np.array([2, 6, 4])
    found = metrics.summary(measured(None, tokens, many=np.array([[-6.0], [-18.0]])), "direct")
    assert (found.nll, found.log_likelihood, found.log_likelihood_gain) == (3.0, -3.0, 0.0)
    assert (found.bound, found.bound_by_k, found.nll_marked, found.ess_mean) == (None, [], None, None)


def test_of_one_document_there_is_no_interval() -> None:
    found = metrics.summary(measured(np.zeros((2, 2)), np.array([3, 4]), np.zeros(2, int)), "thought")
    assert found.nll == 3.0
    assert all(getattr(found.intervals, name) is None for name in ("nll", "bound", "bound_gain"))


def test_intervals_are_over_documents() -> None:
    """Ten chunks of one document are one draw."""
    generator = np.random.default_rng(0)
    log_w = np.repeat(generator.normal(size=(20, 1)), 10, axis=0)
    whole = measured(log_w, np.ones(200, int), document=np.repeat(np.arange(20), 10))
    each = dataclasses.replace(whole, document=np.arange(200))

    def width(one: Measured) -> float:
        interval = metrics.summary(one, "thought").intervals.bound
        assert interval is not None
        return interval[1] - interval[0]

    assert width(whole) == pytest.approx(width(each) * np.sqrt(10), rel=0.3)


def test_accuracy_is_of_the_answers_that_count() -> None:
    answered = dataclasses.replace(
        measured(np.zeros((4, 1)), np.ones(4, int)),
        correct={
            "thought": np.array([True, True, True, False]),
            "majority": np.array([True, False, False, False]),
            "direct": np.array([False] * 4),
        },
        correct_sampled=np.array([[True, True], [False, True], [False, False], [False, False]]),
        likelihood_prior=np.array([0.5, 0.25, 0.0, 0.25]),
    )
    thinking, direct = (metrics.summary(answered, name) for name in ("thought", "direct"))
    assert (thinking.accuracy, direct.accuracy) == (0.75, 0.0)
    assert (thinking.accuracy_sampled, thinking.accuracy_direct) == (0.375, 0.0)
    assert (thinking.accuracy_majority, thinking.accuracy_pass) == (0.25, 0.5)
    assert thinking.likelihood_prior == 0.25
    assert thinking.intervals.accuracy is not None
    low, high = thinking.intervals.accuracy
    assert 0.25 < low < 0.75 < high < 1


def test_several_answers_per_question_narrow_the_interval_by_no_more_than_they_differ() -> None:
    one = np.random.default_rng(0).random(60) < 0.4
    base = measured(np.zeros((60, 1)), np.ones(60, int))

    def width(answers: np.ndarray) -> float:
        found = metrics.summary(dataclasses.replace(base, correct_sampled=answers), "thought")
        assert found.intervals.accuracy_sampled is not None
        low, high = found.intervals.accuracy_sampled
        return high - low

    single, repeated = width(one[:, None]), width(np.repeat(one[:, None], 16, axis=1))
    assert repeated == pytest.approx(single, rel=1e-6), "the same answer sixteen times says no more than once"
    independent = np.random.default_rng(1).random((60, 16)) < 0.4
    assert width(independent) < 0.5 * single
    assert width(np.zeros((60, 4), bool)) > 0.03, "none of 60 right does not mean that none ever is"
