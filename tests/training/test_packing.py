"""Packing: every example in one row, no row too long, little room left over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.training import packing


@given(st.lists(st.integers(1, 50), max_size=200), st.integers(50, 80), st.integers(0, 2**32))
def test_every_example_is_in_one_row_and_rows_fit(lengths: list[int], capacity: int, seed: int) -> None:
    order = packing.shuffled(len(lengths), np.random.default_rng(seed)).tolist()
    rows = list(packing.pack(lengths, order, capacity))
    assert sorted(member for row in rows for member in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[member] for member in row) <= capacity for row in rows)
    assert rows == list(packing.pack(lengths, order, capacity))


def share(lengths: np.ndarray, capacity: int, seed: int) -> float:
    """Of the positions that hold a token."""
    rows = list(packing.pack(lengths, np.random.default_rng(seed).permutation(len(lengths)), capacity))
    return float(lengths.sum() / (capacity * len(rows)))


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_full_on_lengths_like_the_demos(seed: int) -> None:
    assert share(np.random.default_rng(seed).integers(13, 28, 1500), 128, seed) >= 0.98
    assert share(np.random.default_rng(seed).integers(18, 42, 3000), 128, seed) >= 0.98


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_full_on_lengths_like_web_text_with_thoughts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert share(np.clip(rng.lognormal(6.2, 0.5, 3000), 60, 1900).astype(int), 2048, seed) >= 0.99


@given(st.lists(st.integers(1, 50), min_size=1, max_size=200))
def test_no_two_rows_would_fit_into_one(lengths: list[int]) -> None:
    rows = packing.pack(lengths, range(len(lengths)), 50)
    used = sorted(sum(lengths[member] for member in row) for row in rows)
    assert len(used) < 2 or used[0] + used[1] > 50


def test_who_shares_a_row_is_random_and_not_who_stood_together() -> None:
    """The order decides among examples of one length, so that every epoch mixes afresh."""
    lengths = np.random.default_rng(0).integers(13, 28, 1500)
    pairs = [
        {
            (first, second)
            for row in packing.pack(lengths, np.random.default_rng(seed).permutation(1500), 128)
            for first in row
            for second in row
            if first < second
        }
        for seed in range(2)
    ]
    assert len(pairs[0] & pairs[1]) < 0.05 * len(pairs[0])


def test_examples_that_fit_exactly_fill_their_row() -> None:
    rows = list(packing.pack([6, 4, 10, 3], [0, 2, 1, 3], 10))
    assert sorted(sorted(row) for row in rows) == [[0, 1], [2], [3]]


def test_an_example_that_fits_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="60 tokens"):
        packing.pack([60], [0], 50)


def test_no_examples_give_no_rows() -> None:
    assert list(packing.pack([], [], 10)) == []
