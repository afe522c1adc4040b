"""Held-out figures from measures whose figures are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lt_hpc.latent import weights
from lt_hpc.stages import metrics
from lt_hpc.stages.metrics import Measured

UNANSWERED = {name: np.zeros(0, bool) for name in metrics.ANSWERS}


def measured(log_weights: np.ndarray, tokens: np.ndarray, document: np.ndarray | None = None) -> Measured:
    """Chunks of two bytes per token; the first token of each is not predicted by the raw text."""
    return Measured(
        document=np.arange(len(tokens)) if document is None else document,
        tokens=tokens,
        bytes=2 * tokens,
        raw_tokens=tokens - 1,
        raw_bytes=2.0 * (tokens - 1),
        nll=3.0 * (tokens - 1),
        nll_marked=1.0 * tokens,
        log_weights=log_weights,
        correct=UNANSWERED,
    )


def test_figures_are_sums_over_sums_of_tokens_and_bytes() -> None:
    tokens = np.array([2, 6])
    found = metrics.summary(measured(np.log([[0.5, 0.25], [0.1, 0.3]]), tokens), "thought", 0)
    assert (found.nll, found.nll_per_byte) == (3.0, 1.5)
    assert (found.nll_marked, found.nll_marked_per_byte) == (1.0, 0.5)
    bound = (np.log(0.375) + np.log(0.2)) / 8
    assert (found.bound, found.bound_per_byte) == pytest.approx((bound, bound / 2))
    first = (np.log(0.5) + np.log(0.1)) / 8
    assert found.bound_by_k == pytest.approx([first, bound])
    ess = np.mean([0.75**2 / (0.25 + 0.0625), 0.4**2 / (0.01 + 0.09)])
    assert found.ess_mean == pytest.approx(ess)
    assert (found.chunks, found.tokens, found.bytes) == (2, 8, 16)
    assert found.accuracy is None and found.intervals.accuracy is None


def test_a_text_of_one_token_predicts_nothing() -> None:
    found = metrics.summary(measured(np.zeros((2, 1)), np.array([1, 5])), "thought", 0)
    assert found.nll == 3.0
    alone = metrics.summary(measured(np.zeros((1, 1)), np.array([1])), "thought", 0)
    assert alone.nll is None and alone.nll_marked == 1.0


def test_chunks_without_a_finished_thought_are_left_out_of_the_bound_and_counted() -> None:
    log_w = np.array([[-1.0, -1.0], [-np.inf, -2.0], [-np.inf, -np.inf]])
    found = metrics.summary(measured(log_w, np.array([1, 1, 1])), "thought", 0)
    assert found.bound == pytest.approx((-1.0 + (-2.0 - np.log(2))) / 2)
    assert found.bound_undefined_chunks == 1
    assert found.bound_by_k == [-1.0, -1.0] and found.bound_by_k_undefined_chunks == 2
    none = metrics.summary(measured(log_w[2:], np.array([1])), "thought", 0)
    assert none.bound is None and none.bound_by_k == [None, None] and none.ess_mean is None


@pytest.mark.parametrize("unfinished", [0.0, 0.1, 0.4])
def test_the_bound_by_k_rises_also_where_thoughts_do_not_finish(unfinished: float) -> None:
    generator = np.random.default_rng(0)
    log_w = generator.normal(-3, 1.5, size=(20_000, 4))
    log_w[generator.random(log_w.shape) < unfinished] = -np.inf
    bounds = weights.bounds_by_k(log_w[np.isfinite(log_w).all(axis=1)])
    found = metrics.summary(measured(log_w, np.ones(len(log_w), int)), "thought", 0).bound_by_k
    assert found == pytest.approx(bounds.mean(axis=0).tolist())
    assert np.all(np.diff(found) > 0.05)
    assert found[-1] < -3 + 1.5**2 / 2, "log of the mean weight of finished thoughts"


def test_intervals_are_over_documents() -> None:
    """Ten chunks of one document are one draw."""
    generator = np.random.default_rng(0)
    log_w = np.repeat(generator.normal(size=(20, 1)), 10, axis=0)
    whole = measured(log_w, np.ones(200, int), document=np.repeat(np.arange(20), 10))
    each = dataclasses.replace(whole, document=np.arange(200))

    def width(one: Measured) -> float:
        interval = metrics.summary(one, "thought", 0).intervals.bound
        assert interval is not None
        return interval[1] - interval[0]

    assert width(whole) == pytest.approx(width(each) * np.sqrt(10), rel=0.3)


def test_accuracy_is_of_the_answers_that_count() -> None:
    answered = dataclasses.replace(
        measured(np.zeros((4, 1)), np.ones(4, int)),
        correct={
            "thought": np.array([True, True, True, False]),
            "sampled": np.array([True, False, False, False]),
            "direct": np.array([False] * 4),
        },
    )
    thinking, direct = (metrics.summary(answered, name, 0) for name in ("thought", "direct"))
    assert (thinking.accuracy, direct.accuracy) == (0.75, 0.0)
    assert (thinking.accuracy_sampled, thinking.accuracy_direct) == (0.25, 0.0)
    assert thinking.intervals.accuracy is not None
    low, high = thinking.intervals.accuracy
    assert 0.25 < low < 0.75 < high < 1
