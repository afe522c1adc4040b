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


@pytest.mark.parametrize(
    ("samples", "scale", "recorded"),
    [
        (4, 0.3, -0.03670742362010967), (4, 1.0, 0.013538129690208938), (4, 3.0, 0.6643696424228167),
        (8, 0.3, 0.006851747794875877), (8, 1.0, 0.1489485607948083), (8, 3.0, 0.8726372411140446),
        (16, 0.3, -0.06945651902671002), (16, 1.0, 0.2728166946899142), (16, 3.0, 0.9114980560550433),
    ],
)  # fmt: skip
def test_pareto_k_of_few_thoughts_pooled_over_chunks_is_that_of_arviz(
    samples: int, scale: float, recorded: float
) -> None:
    """`arviz.psislw(log_w)[1]` of arviz 0.21.0 for the same 300 chunks."""
    generator = np.random.default_rng([samples, int(10 * scale)])
    of_chunks = scale * generator.standard_normal((300, samples)) + generator.standard_normal((300, 1))
    centred = of_chunks - of_chunks.mean(axis=1, keepdims=True)
    assert diagnostics.pareto_k(centred.ravel()) == pytest.approx(recorded, rel=1e-9)


WEIGHTS = st.sampled_from([-np.inf, -700.0, -1.0, 0.0, 0.5, 3.0]) | st.floats(-50, 50)


@given(st.lists(WEIGHTS, min_size=20, max_size=60))
def test_pareto_k_is_a_number_exactly_where_the_tail_tells(log_w: list[float]) -> None:
    array = np.sort(np.array(log_w))
    finite = array[np.isfinite(array)]
    found = diagnostics.pareto_k(array)
    assert found < np.inf or np.isnan(found)
    if len(finite) < diagnostics.MIN_SAMPLES_FOR_PARETO:
        assert np.isnan(found)
        return
    size = int(np.ceil(min(len(finite) / 5, 3 * np.sqrt(len(finite)))))
    scaled = np.exp(finite - finite[-1])
    above = (scaled > scaled[-size - 1]).sum()
    assert np.isnan(found) == (0 < above < diagnostics.MIN_TAIL)
    assert (found == -np.inf) == (above == 0)


def test_equal_weights_have_no_tail() -> None:
    assert diagnostics.pareto_k(np.zeros(40)) == -np.inf
    assert diagnostics.pareto_k(np.array([0.0] * 20 + [1.0] * 20)) == -np.inf


def test_one_thought_with_nearly_all_the_weight_leaves_no_tail_to_tell_from() -> None:
    assert np.isnan(diagnostics.pareto_k(np.array([5.0] + [0.0] * 29)))


def test_a_thought_drawn_many_times_below_the_tail_does_not_hide_it() -> None:
    normal = np.random.default_rng(0).normal(size=(200, 64))
    normal[:, :40] = -3.0
    mild, heavy = (np.nanmean([diagnostics.pareto_k(s * row) for row in normal]) for s in (0.5, 4.0))
    assert mild < 0.5 < 0.7 < heavy


def test_means_by_length_are_of_bins_of_equal_count() -> None:
    lengths = np.array([30.0, 10.0, 20.0, 40.0])
    values = np.array([3.0, 1.0, 2.0, 4.0])
    assert diagnostics.mean_by_length(values, lengths, bins=2) == [(15.0, 1.5, 2), (35.0, 3.5, 2)]
    assert diagnostics.mean_by_length(values[:1], lengths[:1]) == [(30.0, 3.0, 1)]


def test_a_sample_that_does_not_vary_has_no_correlation() -> None:
    assert diagnostics.correlation(np.ones(3), np.arange(3.0)) is None
    assert diagnostics.correlation(np.arange(3.0), -np.arange(3.0)) == pytest.approx(-1)
