"""Where a schedule starts, ends and falls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.training import schedule

NAMES = ["cosine", "wsd"]


@given(st.sampled_from(NAMES), st.integers(1, 500), st.integers(0, 50), st.floats(0, 1))
def test_a_schedule_stays_between_final_and_peak_after_its_warmup(
    name: str, steps: int, warmup: int, final: float
) -> None:
    values = [schedule.learning_rate(name, step, steps, warmup, final) for step in range(steps)]
    after = values[warmup:]
    assert all(final - 1e-9 <= value <= 1 + 1e-9 for value in after)
    assert after == sorted(after, reverse=True)
    assert values[:warmup] == sorted(values[:warmup])


@given(st.sampled_from(NAMES), st.integers(0, 40), st.integers(50, 500), st.floats(0, 1))
def test_it_starts_at_the_peak_and_reaches_the_final_rate_when_all_steps_are_done(
    name: str, warmup: int, steps: int, final: float
) -> None:
    assert schedule.learning_rate(name, warmup, steps, warmup, final) == pytest.approx(1)
    assert schedule.learning_rate(name, steps, steps, warmup, final) == pytest.approx(final)


@pytest.mark.parametrize("name", NAMES)
def test_the_warmup_rises_in_equal_parts_and_its_first_step_is_not_lost(name: str) -> None:
    values = [schedule.learning_rate(name, step, 100, 4, 0.1) for step in range(4)]
    assert values == [0.25, 0.5, 0.75, 1.0]


def test_an_unknown_schedule_is_not_taken_for_one_of_the_known() -> None:
    with pytest.raises(AssertionError, match="linear"):
        schedule.learning_rate("linear", 60, 100, 20, 0.2)  # type: ignore[arg-type]


def test_cosine_is_halfway_in_the_middle() -> None:
    assert schedule.learning_rate("cosine", 60, 100, 20, 0.2) == pytest.approx(0.6)


def test_wsd_holds_the_peak_for_four_fifths_and_then_falls_on_a_line() -> None:
    values = [schedule.learning_rate("wsd", step, 100, 10, 0.0) for step in range(10, 101)]
    assert values[:71] == [1.0] * 71
    assert values[70:] == pytest.approx([1 - step / 20 for step in range(21)])
