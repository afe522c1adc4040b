"""Packing and the labels: every chunk once, nothing across documents, every token counted once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.data import examples as data
from lt_hpc.data import packing
from lt_hpc.data.corpus import Chunk
from lt_hpc.data.examples import IGNORED, Example
from lt_hpc.latent.layout import Layout

LAYOUT = Layout(100, 101, 102, 103)
PAD = 99


def example(index: int, prefix: int, suffix: int, thought: int | None, given_prefix: bool = True) -> Example:
    rng = np.random.default_rng(index)
    ids = [rng.integers(1, 90, size).tolist() for size in (prefix, suffix, thought or 0)]
    chunk = Chunk(index, ids[0], ids[1], suffix, given_prefix)
    return Example(chunk, None if thought is None else ids[2])


@given(st.lists(st.integers(1, 50), max_size=200), st.integers(50, 80))
def test_every_example_is_in_one_row_and_rows_fit(lengths: list[int], capacity: int) -> None:
    rows = packing.pack(lengths, range(len(lengths)), capacity)
    assert sorted(member for row in rows for member in row) == list(range(len(lengths)))
    assert all(sum(lengths[member] for member in row) <= capacity for row in rows)


def test_rows_are_nearly_full_on_lengths_like_the_demos() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(18, 42, 3000)
    rows = packing.pack(lengths, rng.permutation(3000), 128)
    assert lengths.sum() / (128 * len(rows)) >= 0.94


def test_an_example_that_fits_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="60 tokens"):
        packing.pack([60], [0], 50)


@given(st.integers(0, 5), st.booleans(), st.integers(0, 2**31))
def test_labels_are_the_next_token_inside_each_document(epoch: int, given_prefix: bool, seed: int) -> None:
    examples = [example(i, i % 4, 3, None if i % 5 == 0 else 2 + i % 3, given_prefix) for i in range(20)]
    packed = data.epoch(examples, seed, 1, epoch, 64)
    batch = data.batch([(packed, row) for row in range(len(packed.rows))], examples, LAYOUT, PAD, 64)
    counted = 0
    for row, members in enumerate(packed.rows):
        start = 0
        for member in members:
            tokens = examples[member].tokens(LAYOUT, bool(packed.thought_first[member]))
            stop = start + len(tokens)
            assert batch.ids[row, start:stop].tolist() == tokens
            assert batch.positions[row, start:stop].tolist() == list(range(len(tokens)))
            first = examples[member].num_context()
            labels = batch.labels[row, start:stop].tolist()
            assert labels == [IGNORED] * (first - 1) + tokens[first:] + [IGNORED]
            counted += len(tokens) - first
            start = stop
        assert (batch.labels[row, start:] == IGNORED).all()
    assert (batch.labels != IGNORED).sum() == counted


def test_a_question_takes_loss_and_earlier_chunks_take_it_in_their_own_example() -> None:
    assert example(1, 5, 3, 2, given_prefix=True).num_context() == 1
    assert example(1, 5, 3, 2, given_prefix=False).num_context() == 5


def test_both_orders_are_drawn_afresh_in_each_epoch_about_equally() -> None:
    examples = [example(i, 2, 3, 2) for i in range(200)]
    coins = np.array([data.epoch(examples, 7, 1, e, 64).thought_first for e in range(20)])
    assert abs(coins.mean() - 0.5) < 4 * 0.5 / np.sqrt(coins.size)
    assert coins.mean(axis=0).min() > 0 and coins.mean(axis=0).max() < 1
    again = data.epoch(examples, 7, 1, 3, 64)
    assert again.rows == data.epoch(examples, 7, 1, 3, 64).rows
    assert again.rows != data.epoch(examples, 7, 2, 3, 64).rows
