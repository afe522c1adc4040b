"""Slices share out the documents of a source: each to one slice, evenly, from the seed alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent.slices import MOST, Slices, ordinals, parse

totals = st.integers(1, 40)
seeds = st.integers(0, 2**40)


def of(text: str, seed: int, size: int, start: int = 0) -> list[int]:
    """The ordinals below `size` of the slices that a text names."""
    slices = parse(text)
    assert slices is not None
    return list(itertools.takewhile(lambda ordinal: ordinal < size, ordinals(slices, seed, start)))


@given(totals, seeds, st.integers(0, 200))
def test_every_document_is_in_exactly_one_slice_and_slices_differ_by_one(
    total: int, seed: int, size: int
) -> None:
    found = [of(f"{number} of {total}", seed, size) for number in range(total)]
    assert sorted(itertools.chain(*found)) == list(range(size))
    assert all(one == sorted(one) for one in found)
    assert max(map(len, found)) - min(map(len, found)) <= 1


@given(totals, seeds, st.data())
def test_a_range_of_slices_has_the_documents_of_each_and_an_offset_is_a_skip(
    total: int, seed: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, total - 1))
    last = data.draw(st.integers(first, total - 1))
    together = of(f"{first}-{last} of {total}", seed, 120)
    each = [of(f"{number} of {total}", seed, 120) for number in range(first, last + 1)]
    assert together == sorted(itertools.chain(*each))
    start = data.draw(st.integers(0, len(together)))
    assert of(f"{first}-{last} of {total}", seed, 120, start) == together[start:]


def test_a_seed_draws_the_same_documents_in_every_release() -> None:
    """Prepared documents and those to come of one source would overlap otherwise."""
    assert of("0 of 20", 0, 100) == [15, 32, 47, 79, 96]
    assert of("13-17 of 20", 7, 40) == [0, 10, 14, 15, 18, 28, 32, 37, 38, 39]
    assert of("0 of 20", 1, 100) != [15, 32, 47, 79, 96]


def test_slices_are_drawn_and_not_dealt_in_turn() -> None:
    places = [ordinal % 5 for ordinal in of("2 of 5", 0, 1000)]
    assert all(30 < places.count(place) < 50 for place in range(5))


@pytest.mark.parametrize(
    "text", ["0 of 1", "0 of 20", "13-17 of 20", "19 of 20", "0-19 of 20", f"0 of {MOST}"]
)
def test_slices_are_read(text: str) -> None:
    slices = parse(text)
    assert isinstance(slices, Slices) and text.startswith(str(slices.first))
    assert text.endswith(str(slices.total)) and slices.count >= 1


@pytest.mark.parametrize(
    "text",
    [
        "", "3", "20 of 20", "17-13 of 20", "13-20 of 20", "-1 of 20", "0 of 0", "0of20", "0  of 20",
        " 0 of 20", "0 of 20 ", "00 of 20", "0 of 020", "0/20", "13:17 of 20", "13 - 17 of 20", "1.5 of 20",
        "\u0663 of 20", "0 OF 20", "0 of 100001", "all", "0-3-4 of 20", "1_0 of 20",
    ],
)  # fmt: skip
def test_what_is_no_slice_is_not_read(text: str) -> None:
    assert parse(text) is None
