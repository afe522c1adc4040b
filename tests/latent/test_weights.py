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


@given(st.lists(eighths, min_size=1, max_size=16), eighths)
def test_a_common_shift_changes_nothing_but_the_bound(log_w: list[float], shift: float) -> None:
    one, other = np.array(log_w), np.array(log_w) + shift
    assert np.array_equal(weights.normalised(one), weights.normalised(other))
    assert weights.effective_sample_size(one) == weights.effective_sample_size(other)
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
        assert ess == 0 and normal.sum() == 0


@given(st.integers(1, 32), finite)
def test_equal_weights_have_full_ess(k: int, value: float) -> None:
    assert weights.effective_sample_size(np.full(k, value)) == pytest.approx(k)


@given(st.lists(anything, min_size=1, max_size=12))
def test_the_bound_of_all_samples_is_the_last_of_the_bounds_by_k(log_w: list[float]) -> None:
    array = np.array(log_w)
    bounds = weights.bounds_by_k(array)
    assert bounds.shape == array.shape and not np.isnan(bounds).any()
    np.testing.assert_allclose(bounds[-1], weights.log_mean_exp(array), rtol=1e-9, atol=1e-9)


def of_subsets(log_w: np.ndarray, k: int) -> float:
    """The mean bound over all subsets of k."""
    return float(np.mean([weights.log_mean_exp(np.array(one)) for one in itertools.combinations(log_w, k)]))


@given(st.lists(finite, min_size=2, max_size=6))
def test_bounds_by_k_are_means_over_subsets_in_which_each_sample_is_as_often(log_w: list[float]) -> None:
    array = np.array(log_w)
    bounds = weights.bounds_by_k(array)
    assert bounds[0] == pytest.approx(array.mean(), abs=1e-6)
    for k in (len(array) - 1, len(array)):
        assert bounds[k - 1] == pytest.approx(of_subsets(array, k), abs=1e-6)


def test_bounds_by_k_are_near_those_of_all_subsets() -> None:
    draws = np.random.default_rng(0).normal(0, 2, (300, 8))
    exact = np.mean([[of_subsets(row, k) for k in range(1, 9)] for row in draws], axis=0)
    np.testing.assert_allclose(weights.bounds_by_k(draws).mean(axis=0), exact, atol=0.02)
    assert np.all(np.diff(exact) > 0)


def test_the_gain_is_the_bound_of_all_above_that_of_half_and_none_of_one() -> None:
    draws = np.random.default_rng(1).normal(0, 2, (50, 6))
    bounds = weights.bounds_by_k(draws)
    np.testing.assert_allclose(weights.gain(draws), bounds[:, 5] - bounds[:, 2])
    np.testing.assert_allclose(weights.gain(draws[:, :1]), 0.0, atol=1e-12)


def test_equal_thoughts_count_once() -> None:
    """Sixteen samples with equal weights of two thoughts are two."""
    kinds = np.array([[0] * 8 + [8] * 8])
    log_w = np.zeros((1, 16))
    assert weights.effective_sample_size(log_w).tolist() == [16.0]
    summed = weights.of_different(weights.normalised(log_w), kinds)
    assert summed[0, [0, 8]].tolist() == [0.5, 0.5] and summed.sum() == 1
    assert weights.inverse_simpson(summed).tolist() == [2.0]


@given(st.lists(st.lists(anything, min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_row_is_weighed_the_same_alone_and_in_a_table(rows: list[list[float]]) -> None:
    table = np.array(rows)
    for function in (weights.normalised, weights.effective_sample_size, weights.log_mean_exp):
        assert np.array_equal(function(table), np.stack([function(row) for row in table]))


def test_a_log_weight_is_prior_plus_likelihood_minus_proposal() -> None:
    log_w = weights.log_weights(np.array([-3.0]), np.array([-2.0]), np.array([-1.5], np.float32))
    assert log_w.tolist() == [-3.5] and log_w.dtype == np.float64


@given(st.integers(1, 400), st.floats(0, 0.9))
def test_a_share_of_the_thoughts_comes_from_the_prior_and_one_at_least_from_the_posterior(
    k: int, share: float
) -> None:
    count = weights.prior_count(k, share)
    assert 0 <= count < k and share - 1 / k <= count / k <= share + 1e-9


@given(
    st.lists(st.tuples(finite, finite), min_size=1, max_size=9),
    st.floats(0.01, 0.9),
    st.lists(finite, min_size=9, max_size=9),
)
def test_weights_of_a_mixture_are_bounded_by_what_the_prior_part_gives(
    log_densities: list[tuple[float, float]], share: float, log_likelihood: list[float]
) -> None:
    log_q, log_p = np.array(log_densities).T
    likelihood = np.array(log_likelihood[: len(log_q)])
    log_w = weights.log_weights(log_p, likelihood, weights.log_mixture(log_q, log_p, share))
    assert np.all(log_w <= likelihood - np.log(share) + 1e-9)
    assert np.array_equal(weights.log_mixture(log_q, log_p, 0.0), log_q)


@given(st.integers(2, 6), st.integers(0, 2**32), st.floats(0.1, 0.9))
def test_weighed_by_the_mixture_thoughts_of_both_parts_are_unbiased_together(
    num_thoughts: int, seed: int, share: float
) -> None:
    generator = np.random.default_rng(seed)
    q, p = generator.dirichlet(np.ones(num_thoughts), 2)
    likelihood = generator.uniform(size=num_thoughts)
    w = np.exp(
        weights.log_weights(np.log(p), np.log(likelihood), weights.log_mixture(np.log(q), np.log(p), share))
    )
    assert (1 - share) * (q @ w) + share * (p @ w) == pytest.approx(p @ likelihood)


def test_the_bound_rises_with_k_in_expectation() -> None:
    draws = np.random.default_rng(0).normal(0, 2, (4000, 8))
    bounds = weights.bounds_by_k(draws)
    assert np.all(np.diff(bounds.mean(axis=0)) > 0)
    np.testing.assert_allclose(bounds[:, -1], weights.log_mean_exp(draws))


@given(st.lists(st.lists(anything, min_size=4, max_size=4), min_size=1, max_size=8), st.floats(1, 4))
def test_tempered_weights_reach_the_ess_with_the_largest_exponent(
    rows: list[list[float]], target: float
) -> None:
    log_w = np.array(rows)
    usable = log_w[np.isfinite(log_w).any(axis=1)]
    alpha = weights.tempered_exponent([log_w], target)
    assert 0 <= alpha <= 1
    if not len(usable):
        return

    def mean_ess(exponent: float) -> float:
        return float(weights.effective_sample_size(weights.tempered(usable, exponent)).mean())

    reachable = np.isfinite(usable).sum(axis=1).mean()
    assert mean_ess(alpha) >= min(target, reachable) - 1e-6
    assert alpha == 1 or mean_ess(alpha + 1e-9) < target + 1e-6


@given(st.lists(anything, min_size=1, max_size=12), st.floats(0, 1))
def test_tempering_keeps_zero_weights_and_the_order(log_w: list[float], alpha: float) -> None:
    array = np.array(log_w)
    tempered = weights.tempered(array, alpha)
    assert np.array_equal(np.isfinite(tempered), np.isfinite(array))
    order = np.argsort(array, kind="stable")
    assert not np.any(tempered[order][1:] < tempered[order][:-1])


def test_length_normalised_weights_are_nats_a_token() -> None:
    log_w = np.array([[-10.0, -12.0, -np.inf]])
    found = weights.length_normalised(log_w, np.array([[5, 4, 0]]))
    assert found.tolist() == [[-2.0, -3.0, -np.inf]]


@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 2**32))
def test_weights_by_the_mixture_of_proposals_are_unbiased(proposals: int, size: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    q = generator.dirichlet(np.full(size, 0.5), proposals)
    p, counts = generator.random(size), generator.integers(1, 5, proposals)
    log_mixture = weights.log_balance(np.log(q), counts)
    # The mean of all weights, in expectation over what each proposal draws.
    expected = sum(
        n / counts.sum() * (one * p / np.exp(log_mixture)).sum() for n, one in zip(counts, q, strict=True)
    )
    assert expected == pytest.approx(p.sum())
    for n, one in zip(counts, q, strict=True):
        assert (np.exp(log_mixture) >= n / counts.sum() * one * (1 - 1e-12)).all()


def test_a_thought_that_one_proposal_never_draws_is_weighed_by_the_others() -> None:
    log_q = np.array([[np.log(0.5), -np.inf], [0.0, np.log(1e-300)]])
    found = weights.log_balance(log_q, np.array([1, 3]))
    assert np.exp(found) == pytest.approx([0.875, 0.75e-300])
    assert weights.log_balance(log_q[:, :1], np.array([2, 0])) == pytest.approx(np.log([0.5]))
