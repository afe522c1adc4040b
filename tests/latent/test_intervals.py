"""Intervals against published quantiles and formulas, and what holds for any of them. How often they hold the
truth is simulated by tools/interval_coverage.py."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import exp, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lt_hpc.latent import intervals

Rows = list[tuple[float, float]]
NUMERATORS = st.integers(-1000, 1000).map(lambda number: number / 8)
ROWS = st.lists(st.tuples(NUMERATORS, st.integers(1, 200).map(float)), min_size=2, max_size=20)
"""(numerator, denominator) of each document."""
SHARES = st.lists(
    st.integers(1, 20).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))),
    min_size=2,
    max_size=20,
).filter(lambda rows: len({Fraction(*row) for row in rows}) > 1)
"""(successes, trials) of each document, whose shares differ."""
CELLS = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)).filter(
    lambda cells: sum(cells) > 1
)
"""Trials that were gained, lost, and the same."""


def columns(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(rows, float)
    return array[:, 0], array[:, 1]


def bounds(measure: tuple[float, intervals.Interval | None]) -> np.ndarray:
    """[low, value, high]."""
    value, interval = measure
    assert interval is not None
    return np.array([interval[0], value, interval[1]])


def standard_error(measure: tuple[float, intervals.Interval | None], documents: int) -> float:
    low, _, high = bounds(measure)
    return float(high - low) / 2 / intervals.t_quantile(0.975, documents - 1)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [
        (1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (5, 2.57058), (10, 2.22814), (30, 2.04227),
        (100, 1.98397), (1000, 1.96234), (1001, 1.96), (10**9, 1.95996),
    ],
)  # fmt: skip
def test_quantiles_of_student_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert intervals.t_quantile(0.975, degrees) == pytest.approx(
        quantile, rel=2e-4 if degrees == 1001 else 1e-5
    )


@pytest.mark.parametrize(
    ("level", "degrees", "quantile"),
    [(0.9, 1, 3.07768), (0.95, 2, 2.91999), (0.99, 7, 2.99795), (0.995, 3, 5.84091), (0.999, 20, 3.55181)],
)
def test_quantiles_at_other_levels(level: float, degrees: int, quantile: float) -> None:
    assert intervals.t_quantile(level, degrees) == pytest.approx(quantile, rel=1e-5)


@given(st.integers(1, 1100), st.floats(0.51, 0.999))
def test_quantiles_fall_with_the_degrees_to_that_of_the_normal(degrees: int, level: float) -> None:
    here, more = intervals.t_quantile(level, degrees), intervals.t_quantile(level, degrees + 1)
    assert here >= more >= NormalDist().inv_cdf(level) - 1e-12
    assert intervals.t_quantile(0.5, degrees) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("value", [0, 1])
def test_fewer_than_two_documents_have_no_interval(value: int) -> None:
    one, trials = np.array([float(value)]), np.array([1.0])
    assert intervals.ratio(one, trials) == (value, None)
    assert intervals.positive_ratio(one, trials) == (value, None)
    assert intervals.share(value, 1) == (value, None)
    assert intervals.mean_share(one, trials) == (value, None)
    assert intervals.share_difference(value, 0, 1) == (value, None)
    assert intervals.share_difference(0, value, 1) == (-value, None)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_documents_changes_nothing(rows: Rows, random: object) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = bounds(intervals.ratio(*columns(rows)))
    assert bounds(intervals.ratio(*columns(shuffled))) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(SHARES, st.randoms(use_true_random=False))
def test_nor_that_of_a_mean_share(rows: Rows, random: object) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = bounds(intervals.mean_share(*columns(rows)))
    assert bounds(intervals.mean_share(*columns(shuffled))) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(ROWS, st.sampled_from([-3.0, 0.5, 1024.0]), st.sampled_from([0.25, 7.0]))
def test_a_ratio_has_the_units_of_its_numerators_and_denominators(
    rows: Rows, above: float, below: float
) -> None:
    numerators, denominators = columns(rows)
    expected = np.sort(bounds(intervals.ratio(numerators, denominators)) * above / below)
    found = bounds(intervals.ratio(numerators * above, denominators * below))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(ROWS, st.sampled_from([-2.0, 10.0]))
def test_what_each_token_adds_moves_the_interval(rows: Rows, more: float) -> None:
    numerators, denominators = columns(rows)
    expected = bounds(intervals.ratio(numerators, denominators)) + more
    found = bounds(intervals.ratio(numerators + more * denominators, denominators))
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-7)


@given(ROWS, st.floats(-10, 10))
def test_documents_that_agree_have_an_interval_without_width(rows: Rows, value: float) -> None:
    _, denominators = columns(rows)
    found = bounds(intervals.ratio(value * denominators, denominators))
    assert found == pytest.approx([value] * 3, rel=1e-9, abs=1e-9)


@given(ROWS, st.sampled_from([1.0, 40.0]))
def test_of_documents_of_one_size_it_is_the_t_interval_of_the_mean(rows: Rows, size: float) -> None:
    numerators, _ = columns(rows)
    count = len(rows)
    mean, deviation = float(numerators.mean()), float(numerators.std(ddof=1))
    half = intervals.t_quantile(0.975, count - 1) * deviation / sqrt(count)
    expected = np.array([mean - half, mean, mean + half]) / size
    found = bounds(intervals.ratio(numerators, np.full(count, size)))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_ratio_by_hand() -> None:
    """4/2, 3/2 and 5/4: without each of them 8/6, 9/6 and 7/4."""
    low, value, high = bounds(intervals.ratio(np.array([4.0, 3.0, 5.0]), np.array([2.0, 2.0, 4.0])))
    left_out = np.array([8 / 6, 9 / 6, 7 / 4])
    error = sqrt(2 / 3 * np.sum((left_out - left_out.mean()) ** 2))
    assert value == 12 / 8
    assert (low, high) == pytest.approx((1.5 - 4.30265 * error, 1.5 + 4.30265 * error), rel=1e-5)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 50)), min_size=2, max_size=20))
def test_what_is_never_negative_has_an_interval_above_zero(rows: list[tuple[int, int]]) -> None:
    numerators, denominators = columns([(float(above), float(below)) for above, below in rows])
    low, value, high = bounds(intervals.positive_ratio(numerators, denominators))
    symmetric = bounds(intervals.ratio(numerators, denominators))
    assert 0 <= low <= value == symmetric[1] <= high
    assert high >= symmetric[2] - 1e-12 and low >= symmetric[0] - 1e-12


def test_a_positive_ratio_by_hand() -> None:
    """1 and 3: mean 2, standard error 1, t 12.7062."""
    low, value, high = bounds(intervals.positive_ratio(np.array([1.0, 3.0]), np.ones(2)))
    assert value == 2
    assert (low, high) == pytest.approx((2 * exp(-6.3531), 2 * exp(6.3531)), rel=1e-4)


def test_dependent_chunks_are_no_more_evidence_than_their_documents() -> None:
    """The same chunk a hundred times over in each document: the interval stays."""
    documents, values = np.arange(6), np.array([1.0, 4.0, 2.0, 2.0, 7.0, 3.0])
    once = intervals.ratio(values, np.ones(6))
    copies = np.repeat(documents, 100), np.repeat(values, 100)
    sums = intervals.by_document(*copies), intervals.by_document(copies[0], np.ones(600))
    assert bounds(intervals.ratio(*sums)) == pytest.approx(bounds(once), rel=1e-12)


@given(ROWS)
def test_twice_the_documents_have_a_smaller_standard_error(rows: Rows) -> None:
    numerators, denominators = columns(rows)
    once = standard_error(intervals.ratio(numerators, denominators), len(rows))
    assume(once > 1e-6)
    twice = intervals.ratio(np.tile(numerators, 2), np.tile(denominators, 2))
    assert standard_error(twice, 2 * len(rows)) < once


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
        (10, 20, 0.2993, 0.7007),
    ],
)  # fmt: skip
def test_score_intervals_are_the_published_ones(successes: int, count: int, low: float, high: float) -> None:
    found = bounds(intervals.share(successes, count))
    assert found == pytest.approx([low, successes / count, high], abs=5e-5)


@given(st.integers(2, 5000))
def test_not_even_a_share_of_none_or_all_is_certain(count: int) -> None:
    low, _, high = bounds(intervals.share(0, count))
    assert 0 <= low < 1e-12 and 3 / (count + 3) < high < 1
    low, _, high = bounds(intervals.share(count, count))
    assert 0 < low < count / (count + 3) and 1 - 1e-12 < high <= 1


@given(st.integers(2, 500), st.data())
def test_a_score_interval_is_mirrored_by_counting_failures(count: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, count))
    low, value, high = bounds(intervals.share(successes, count))
    assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1
    mirrored = bounds(intervals.share(count - successes, count))
    assert mirrored == pytest.approx([1 - high, 1 - value, 1 - low], abs=1e-12)


@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_a_mean_share_of_one_trial_each_is_a_share(successes: list[bool]) -> None:
    found = intervals.mean_share(np.array(successes, float), np.ones(len(successes)))
    assert bounds(found) == pytest.approx(bounds(intervals.share(sum(successes), len(successes))), abs=1e-12)


@given(SHARES)
def test_a_mean_share_is_mirrored_by_counting_failures(rows: Rows) -> None:
    successes, trials = columns(rows)
    low, value, high = bounds(intervals.mean_share(successes, trials))
    assert 0 <= low <= value <= high <= 1 and low < high
    mirrored = bounds(intervals.mean_share(trials - successes, trials))
    assert mirrored == pytest.approx([1 - high, 1 - value, 1 - low], rel=1e-9, abs=1e-9)


def test_documents_that_agree_are_not_certain_of_a_mean_share() -> None:
    for count in (3, 6, 10):
        for value in (0.1, 0.3, 1 / 3, 0.7):
            found = bounds(intervals.mean_share(np.full(count, value), np.ones(count)))
            assert found == pytest.approx(bounds(intervals.share(value * count, count)), rel=1e-9)


def test_a_mean_of_tiny_likelihoods_has_an_interval() -> None:
    """Whose variance is below the smallest float."""
    tiny = np.array([1e-200, 2e-200, 3e-200])
    low, value, high = bounds(intervals.mean_share(tiny, np.ones(3)))
    assert value == pytest.approx(2e-200) and 0 <= low < high < 1


def test_answers_that_depend_on_their_document_say_no_more_than_it_does() -> None:
    """Forty documents whose ten answers are all right or all wrong."""
    right = np.arange(40) % 4 == 0
    low, _, high = bounds(intervals.mean_share(10.0 * right, np.full(40, 10.0)))
    assert [low, high] == pytest.approx(bounds(intervals.share(10, 40))[[0, 2]], abs=1e-12)
    _, _, independent = bounds(intervals.share(100, 400))
    assert high > independent


def test_answers_that_agree_more_across_documents_narrow_a_mean_share() -> None:
    trials = np.full(40, 10.0)
    apart = bounds(intervals.mean_share(np.tile([0.0, 10.0], 20), trials))
    near = bounds(intervals.mean_share(np.tile([4.0, 6.0], 20), trials))
    assert near[2] - near[0] < (apart[2] - apart[0]) / 2


@given(CELLS)
def test_a_difference_of_shares_is_mirrored_by_exchanging_the_models(cells: tuple[int, int, int]) -> None:
    gained, lost, count = *cells[:2], sum(cells)
    low, value, high = bounds(intervals.share_difference(gained, lost, count))
    assert -1 <= low <= value <= high <= 1 and low < high
    assert value == (gained - lost) / count
    assert bounds(intervals.share_difference(lost, gained, count)) == pytest.approx([-high, -value, -low])


def test_a_difference_of_shares_by_hand() -> None:
    """Half a trial in each cell, then Wald's: 12.5 gained and 4.5 lost of 102."""
    gained, lost = 12.5 / 102, 4.5 / 102
    half = 1.959964 * sqrt((gained + lost - (gained - lost) ** 2) / 102)
    expected = [gained - lost - half, 0.08, gained - lost + half]
    assert bounds(intervals.share_difference(12, 4, 100)) == pytest.approx(expected, rel=1e-6)


def test_a_difference_of_shares_is_surer_of_more_trials() -> None:
    widths = [np.ptp(bounds(intervals.share_difference(n // 10, n // 20, n))) for n in (20, 100, 1000)]
    assert widths == sorted(widths, reverse=True)
    assert bounds(intervals.share_difference(100, 50, 1000))[0] > 0


@pytest.mark.parametrize(
    "rename", [lambda d: d, lambda d: 10**12 - 7 * d, lambda d: np.array([f"doc {x:03}" for x in d])]
)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-50, 50)), min_size=1, max_size=40))
def test_chunks_are_summed_by_document_whatever_it_is_called(
    rename: Callable[[np.ndarray], np.ndarray], chunks: list[tuple[int, int]]
) -> None:
    documents, values = np.array(chunks).T
    names = rename(documents)
    assert intervals.by_document(names, values.astype(float)).tolist() == [
        int(values[names == name].sum()) for name in sorted(set(names.tolist()))
    ]
