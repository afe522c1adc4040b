"""Figures from pieces are those of all chunks at once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent import diagnostics, intervals, running

CUTS = st.lists(st.integers(1, 40), max_size=6)
"""How many chunks the pieces have; the rest is the last one."""


def pieces(total: int, cuts: list[int]) -> list[slice]:
    edges = sorted({0, total, *(edge for edge in np.cumsum(cuts, dtype=int).tolist() if edge < total)})
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), CUTS, st.integers(0, 2**32))
def test_means_and_intervals_over_documents(sizes: list[int], cuts: list[int], seed: int) -> None:
    documents = np.repeat(np.cumsum(sizes), sizes)
    values = np.random.default_rng(seed).normal([[-30.0], [0.5]], [[5.0], [0.1]], (2, len(documents)))
    together = running.Documents()
    for piece in pieces(len(documents), cuts):
        together.add(documents[piece], values[:, piece])
    count, found = together.ratios()
    assert count == len(sizes)
    chunks = intervals.by_document(documents, np.ones(len(documents)))
    for column, (value, interval) in zip(values, found, strict=True):
        expected, bounds = intervals.ratio(intervals.by_document(documents, column), chunks)
        assert value == pytest.approx(expected, rel=1e-12)
        assert interval == (pytest.approx(bounds, rel=1e-11) if bounds else None)


@given(st.integers(1, 100), CUTS, st.integers(0, 2**32), st.sampled_from([0.0, 1.0]))
def test_correlation(count: int, cuts: list[int], seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 5, count)
    other = -20.1 + scale * (one + rng.normal(size=count))
    together = running.Correlation()
    for piece in pieces(count, cuts):
        together.add(one[piece], other[piece])
    expected = diagnostics.correlation(one, other) if scale else None
    assert together.value() == (None if expected is None else pytest.approx(expected, abs=1e-12))


@given(st.integers(0, 2000), CUTS, st.integers(0, 2**32))
def test_pareto_k(count: int, cuts: list[int], seed: int) -> None:
    log_w = np.random.default_rng(seed).normal(0, 3, count)
    log_w[::7] = -np.inf
    together = running.Tail(count + 10)
    for piece in pieces(count, cuts):
        together.add(log_w[piece])
    assert together.pareto_k() == pytest.approx(diagnostics.pareto_k(log_w), rel=1e-12, nan_ok=True)
