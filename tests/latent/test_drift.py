"""What drifts in thoughts, by examples and by what must hold of any tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lt_hpc.latent import drift

IDS = st.lists(st.integers(0, 5), max_size=30)


@pytest.mark.parametrize(
    ("z", "x", "share"),
    [
        ([1, 2, 3, 4, 9], [1, 2, 3, 4, 5, 6, 7, 8], 0.5),
        ([1, 2, 3, 4, 0, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8], 1.0),  # in two pieces
        ([1, 2, 3, 0, 4, 5, 6], [1, 2, 3, 4, 5, 6], 0.0),  # in pieces that are too short
        ([0, 7, 8], [7, 8], 1.0),  # a short x as a whole
        ([8, 7], [7, 8], 0.0),
        ([], [1], 0.0),
        ([1], [], 0.0),
    ],
)
def test_a_copy_is_a_run_of_tokens_of_x(z: list[int], x: list[int], share: float) -> None:
    assert drift.copied_share(z, x) == share


@given(z=IDS, x=IDS, before=IDS, after=IDS)
def test_what_is_copied_stays_copied_in_a_longer_thought(
    z: list[int], x: list[int], before: list[int], after: list[int]
) -> None:
    share = drift.copied_share(z, x)
    assert 0 <= share <= drift.copied_share([*before, *z, *after], x) <= 1
    assert drift.copied_share([*before, *x, *after], x) == float(bool(x))
    assert drift.copied_share([one + 6 for one in z], x) == 0.0, "other tokens"


@given(z=IDS, x=IDS, names=st.permutations(range(6)))
def test_tokens_have_no_meaning(z: list[int], x: list[int], names: list[int]) -> None:
    renamed = [names[one] for one in z], [names[one] for one in x]
    assert drift.copied_share(*renamed) == drift.copied_share(z, x)
    assert drift.repeated_share(renamed[0]) == drift.repeated_share(z)


@given(st.integers(1, 6), st.integers(1, 8))
def test_a_thought_of_equal_parts_repeats_all_but_the_first(parts: int, size: int) -> None:
    z = list(range(size)) * parts
    runs = max(0, len(z) - drift.RUN + 1)
    expected = 1 - min(size, runs) / runs if runs else 0.0
    assert drift.repeated_share(z) == pytest.approx(expected)


@given(st.lists(st.integers(), unique=True))
def test_different_tokens_repeat_nothing(z: list[int]) -> None:
    assert drift.repeated_share(z) == 0.0


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 4))
def test_classes_rise_with_length_and_equal_lengths_share_one(lengths: list[int], classes: int) -> None:
    found = drift.by_length(np.array(lengths), classes)
    assert set(found) <= set(range(classes))
    assert (np.diff(found[np.argsort(lengths)]) >= 0).all()
    assert len(set(zip(lengths, found.tolist(), strict=True))) == len(set(lengths))


def test_different_lengths_fill_the_classes_evenly() -> None:
    found = drift.by_length(np.array([5, 1, 4, 2, 9, 3]), 3)
    assert found.tolist() == [2, 0, 1, 0, 2, 1]


FIGURE = st.floats(0.1, 10)


@given(FIGURE, FIGURE, st.floats(0, 1), st.floats(0, 1))
def test_a_move_is_far_and_beyond_both_intervals(first: float, now: float, one: float, other: float) -> None:
    before, after = (first, (first - one, first + one)), (now, (now - other, now + other))
    assume(abs(abs(first - now) - (one + other)) > 1e-6)
    apart = abs(first - now) > one + other
    for far in (drift.scaled_by(1.5), drift.shifted_by(0.1)):
        assert drift.has_moved(before, after, far) == (far(first, now) and apart)
        assert drift.has_moved(before, after, far) == drift.has_moved(after, before, far), "up or down"
        assert not drift.has_moved(before, (now, None), far)


def test_far_is_a_factor_of_lengths_and_a_distance_of_shares() -> None:
    longer, more = drift.scaled_by(1.5), drift.shifted_by(0.1)
    assert (longer(10, 15), longer(10, 15.1), longer(15.1, 10)) == (False, True, True)
    assert (more(0.5, 0.55), more(0.5, 0.7), more(0.5, 0.3)) == (False, True, True)
