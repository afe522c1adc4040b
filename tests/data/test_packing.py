"""Packing: every example in one row, no row too long, little room left over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.data import packing


@given(st.lists(st.integers(1, 50), max_size=200), st.integers(50, 80), st.integers(0, 2**32))
def test_every_example_is_in_one_row_and_rows_fit(lengths: list[int], capacity: int, seed: int) -> None:
    order = packing.shuffled(len(lengths), np.random.default_rng(seed)).tolist()
    rows = packing.pack(lengths, order, capacity)
    assert sorted(member for row in rows for member in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[member] for member in row) <= capacity for row in rows)
    assert rows == packing.pack(lengths, order, capacity)


def test_rows_are_nearly_full_on_lengths_like_the_demos() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(18, 42, 3000)
    rows = packing.pack(lengths, rng.permutation(3000), 128)
    assert lengths.sum() / (128 * len(rows)) >= 0.94


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_nearly_full_on_lengths_like_web_text_with_thoughts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(6.2, 0.5, 3000), 60, 1900).astype(int)
    rows = packing.pack(lengths, rng.permutation(3000), 2048)
    assert lengths.sum() / (2048 * len(rows)) >= 0.95


def test_rows_stay_near_their_place_in_the_order() -> None:
    """An epoch is mixed by the shuffle alone: packing must not sort the examples by length."""
    lengths = np.random.default_rng(0).integers(10, 100, 4000)
    rows = packing.pack(lengths, range(4000), 256)
    assert max(max(row) - min(row) for row in rows[: len(rows) // 2]) < 1000


def test_examples_that_fit_exactly_fill_their_row() -> None:
    assert packing.pack([6, 4, 10, 3], [0, 2, 1, 3], 10) == [[0, 1], [2], [3]]


def test_an_example_that_fits_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="60 tokens"):
        packing.pack([60], [0], 50)


def test_no_examples_give_no_rows() -> None:
    assert packing.pack([], [], 10) == []
