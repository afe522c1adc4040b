"""Figures that tell whether weights can be trusted, against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent import diagnostics


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_pareto_k_recovers_the_shape_of_a_pareto_tail(shape: float) -> None:
    uniforms = np.random.default_rng(0).random((20, 20_000))
    log_w = -shape * np.log(uniforms)  # w = u^-shape has tail index 1 / shape
    found = np.mean([diagnostics.pareto_k(row) for row in log_w])
    assert found == pytest.approx(shape, abs=0.06)


def test_heavier_tails_have_a_larger_pareto_k() -> None:
    normal = np.random.default_rng(0).normal(size=(200, 64))
    mild, heavy = (np.mean([diagnostics.pareto_k(s * row) for row in normal]) for s in (0.5, 4.0))
    assert mild < 0.5 < 0.7 < heavy


@given(st.lists(st.one_of(st.floats(-700, 700), st.just(-np.inf)), max_size=60))
def test_pareto_k_is_known_exactly_where_enough_thoughts_have_weight(log_w: list[float]) -> None:
    array = np.array(log_w)
    found = diagnostics.pareto_k(array)
    assert np.isnan(found) == (np.isfinite(array).sum() < diagnostics.MIN_SAMPLES_FOR_PARETO)
    assert np.isnan(found) or found < np.inf


def test_equal_weights_have_no_tail() -> None:
    assert diagnostics.pareto_k(np.zeros(40)) == -np.inf


def test_the_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        tokens = generator.integers(1, 20, size=60)
        nats = -2.0 * tokens + generator.normal(0, 3, size=60)
        low, high = diagnostics.ratio_interval(nats, tokens, generator, level=0.9, draws=300)
        covered += bool(low <= -2.0 <= high)
    assert 0.82 <= covered / 200 <= 0.96


def test_the_interval_has_a_column_a_bound() -> None:
    numerators = np.array([[-4.0, -2.0], [-8.0, -4.0]])
    low, high = diagnostics.ratio_interval(numerators, np.array([2, 4]), np.random.default_rng(0))
    assert low.tolist() == high.tolist() == [-2.0, -1.0]


def test_means_by_length_are_of_bins_of_equal_count() -> None:
    lengths = np.array([30.0, 10.0, 20.0, 40.0])
    values = np.array([3.0, 1.0, 2.0, 4.0])
    assert diagnostics.mean_by_length(values, lengths, bins=2) == [(15.0, 1.5, 2), (35.0, 3.5, 2)]
    assert diagnostics.mean_by_length(values[:1], lengths[:1]) == [(30.0, 3.0, 1)]


def test_a_sample_that_does_not_vary_has_no_correlation() -> None:
    assert diagnostics.correlation(np.ones(3), np.arange(3.0)) is None
    assert diagnostics.correlation(np.arange(3.0), -np.arange(3.0)) == pytest.approx(-1)
