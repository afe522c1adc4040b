"""Properties that importance weights must have, whatever the log-probabilities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent import weights

finite = st.floats(-700, 700)
anything = st.one_of(finite, st.just(-np.inf), st.floats(-1e300, 1e300))


eighths = st.integers(-5000, 5000).map(lambda value: value / 8)  # sums of these are exact


@given(st.lists(anything, min_size=1, max_size=16), st.integers(0, 2**32))
def test_the_order_of_the_samples_does_not_matter(log_w: list[float], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(log_w))
    one, other = np.array(log_w), np.array(log_w)[order]
    np.testing.assert_allclose(weights.normalised(one)[order], weights.normalised(other), rtol=1e-9)
    np.testing.assert_allclose(weights.log_mean_exp(one), weights.log_mean_exp(other), rtol=1e-9)
    np.testing.assert_allclose(
        weights.effective_sample_size(one), weights.effective_sample_size(other), rtol=1e-9
    )


@given(st.lists(eighths, min_size=1, max_size=16), eighths, st.floats(0, 1, exclude_max=True))
def test_a_common_shift_changes_nothing_but_the_bound(
    log_w: list[float], shift: float, uniform: float
) -> None:
    one, other = np.array(log_w), np.array(log_w) + shift
    assert np.array_equal(weights.normalised(one), weights.normalised(other))
    assert weights.effective_sample_size(one) == weights.effective_sample_size(other)
    assert weights.resample(one, uniform) == weights.resample(other, uniform)
    assert weights.argmax(one) == weights.argmax(other)
    np.testing.assert_allclose(weights.log_mean_exp(one) + shift, weights.log_mean_exp(other), atol=1e-9)


@given(st.lists(anything, min_size=1, max_size=16))
def test_no_nan_and_an_ess_between_one_and_k(log_w: list[float]) -> None:
    array = np.array(log_w)
    normal, ess = weights.normalised(array), weights.effective_sample_size(array)
    assert not np.isnan(normal).any()
    if np.isfinite(array).any():
        assert normal.sum() == pytest.approx(1)
        assert 1 - 1e-9 <= ess <= len(log_w) + 1e-9
    else:
        assert ess == 0 and normal.sum() == 0 and weights.resample(array, 0.5) == weights.argmax(array) == -1


@given(st.integers(1, 32), finite)
def test_equal_weights_have_full_ess(k: int, value: float) -> None:
    assert weights.effective_sample_size(np.full(k, value)) == pytest.approx(k)


@given(st.lists(anything, min_size=2, max_size=12), st.floats(0, 1, exclude_max=True))
def test_a_thought_without_weight_is_never_selected(log_w: list[float], uniform: float) -> None:
    array = np.array(log_w)
    array[0] = -np.inf
    chosen = weights.resample(array, uniform)
    assert chosen == -1 if not np.isfinite(array).any() else np.isfinite(array[chosen])


@given(st.lists(anything, min_size=1, max_size=12))
def test_argmax_takes_the_largest_weight(log_w: list[float]) -> None:
    array = np.array(log_w)
    chosen = weights.argmax(array)
    assert array[chosen] == array.max() if np.isfinite(array).any() else chosen == -1


@given(st.integers(1, 8), st.floats(0, 1, exclude_max=True))
def test_no_thought_is_selected_where_none_has_weight(k: int, uniform: float) -> None:
    nothing = np.full(k, -np.inf)
    assert weights.resample(nothing, uniform) == weights.argmax(nothing) == -1


@given(st.lists(anything, min_size=1, max_size=12))
def test_the_bound_of_all_samples_is_the_last_of_the_bounds_by_k(log_w: list[float]) -> None:
    array = np.array(log_w)
    bounds = weights.bounds_by_k(array)
    assert bounds.shape == array.shape and not np.isnan(bounds).any()
    assert bounds[0] == array[0]
    np.testing.assert_allclose(bounds[-1], weights.log_mean_exp(array), rtol=1e-9, atol=1e-9)


@given(st.lists(finite, min_size=2, max_size=5))
def test_over_all_orders_of_the_samples_the_mean_bound_rises_with_k(log_w: list[float]) -> None:
    orders = np.array(list(itertools.permutations(log_w)))
    means = weights.bounds_by_k(orders).mean(axis=0)
    assert np.all(np.diff(means) >= -1e-9)


@given(st.lists(st.lists(anything, min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_row_is_weighed_the_same_alone_and_in_a_table(rows: list[list[float]]) -> None:
    table = np.array(rows)
    for function in (weights.normalised, weights.effective_sample_size, weights.log_mean_exp):
        assert np.array_equal(function(table), np.stack([function(row) for row in table]))


def test_unfinished_thoughts_have_no_weight() -> None:
    finished = np.array([True, False])
    log_w = weights.log_weights(np.zeros(2), np.array([-1.0, 5.0]), np.array([-2.0, -np.inf]), finished)
    assert log_w.tolist() == [1.0, -np.inf]


def test_a_log_weight_is_prior_plus_likelihood_minus_proposal() -> None:
    log_w = weights.log_weights(
        np.array([-3.0, -np.inf]),
        np.array([-2.0, -np.inf]),
        np.array([-1.5, -np.inf]),
        np.array([True, False]),
    )
    assert log_w.tolist() == [-3.5, -np.inf]
    assert log_w.dtype == np.float64


def test_the_bound_rises_with_k_in_expectation() -> None:
    draws = np.random.default_rng(0).normal(0, 2, (4000, 8))
    bounds = weights.bounds_by_k(draws)
    assert np.all(np.diff(bounds.mean(axis=0)) > 0)
    np.testing.assert_allclose(bounds[:, -1], weights.log_mean_exp(draws))


def test_selection_frequencies_are_the_normalised_weights() -> None:
    log_w = np.array([0.3, -1.0, 2.0, -np.inf, 1.1])
    uniforms = np.random.default_rng(1).random(40_000)
    chosen = [weights.resample(log_w, u) for u in uniforms]
    frequency = np.bincount(chosen, minlength=5) / len(chosen)
    expected = weights.normalised(log_w)
    error = np.sqrt(expected * (1 - expected) / len(chosen))
    assert np.all(np.abs(frequency - expected) <= 4 * error)
