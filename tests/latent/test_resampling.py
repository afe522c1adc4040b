"""Selection: exact frequencies, nothing without weight, nothing that depends on a shift."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent import resampling, seeds
from lt_hpc.latent.weights import normalised

anything = st.one_of(st.floats(-700, 700), st.just(-np.inf), st.floats(-1e300, 1e300))
eighths = st.integers(-5000, 5000).map(lambda value: value / 8)  # sums of these are exact
methods = st.sampled_from(get_args(resampling.Method))
by_weight = st.sampled_from([one for one in get_args(resampling.Method) if one != "uniform"])


def select(method: str, log_w: np.ndarray, count: int, seed: int) -> np.ndarray:
    return resampling.select(method, log_w, count, np.random.default_rng(seed))


@given(by_weight, st.lists(anything, min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 2**32))
def test_only_thoughts_with_weight_are_selected(
    method: str, log_w: list[float], count: int, seed: int
) -> None:
    array = np.array(log_w)
    chosen = select(method, array, count, seed)
    assert chosen.shape == (count,)
    if np.isfinite(array).any():
        assert np.isfinite(array[chosen]).all() and (chosen >= 0).all()
    else:
        assert (chosen == -1).all()


@given(methods, st.lists(eighths, min_size=1, max_size=12), eighths, st.integers(0, 2**32))
def test_a_common_shift_of_the_log_weights_changes_no_selection(
    method: str, log_w: list[float], shift: float, seed: int
) -> None:
    array = np.array(log_w)
    assert np.array_equal(select(method, array, 3, seed), select(method, array + shift, 3, seed))


@given(st.lists(anything, min_size=1, max_size=12), st.integers(0, 2**32))
def test_argmax_takes_the_largest_weight(log_w: list[float], seed: int) -> None:
    array = np.array(log_w)
    chosen = select("argmax", array, 2, seed)
    assert (array[chosen] == array.max()).all() if np.isfinite(array).any() else (chosen == -1).all()


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=8), st.integers(1, 12), st.integers(0, 2**32))
def test_a_systematic_draw_has_the_expected_count_up_to_one(
    log_w: list[float], count: int, seed: int
) -> None:
    expected = count * normalised(np.array(log_w))
    counts = np.bincount(select("systematic", np.array(log_w), count, seed), minlength=len(log_w))
    assert np.all(np.abs(counts - expected) < 1 + 1e-9)


@pytest.mark.parametrize("method", ["multinomial", "systematic", "argmax", "uniform"])
@pytest.mark.parametrize("draw", [0, 2])
def test_each_draw_has_the_probabilities_of_its_rule_as_its_distribution(
    method: resampling.Method, draw: int
) -> None:
    log_w = np.array([0.3, -1.0, 2.0, -np.inf, 1.1])
    generator = np.random.default_rng(1)
    chosen = [resampling.select(method, log_w, 3, generator)[draw] for _ in range(20_000)]
    frequency = np.bincount(chosen, minlength=5) / len(chosen)
    expected = resampling.probabilities(method, log_w)
    known = {"argmax": [0, 0, 1, 0, 0], "uniform": [0.2] * 5, "multinomial": normalised(log_w)}
    np.testing.assert_allclose(expected, known.get(method, expected))
    error = np.sqrt(expected * (1 - expected) / len(chosen))
    assert np.all(np.abs(frequency - expected) <= 4 * error)


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1.0, 0.0)])
def test_the_ends_of_the_unit_interval_select_the_first_and_the_last_with_weight(uniform: float) -> None:
    log_w = np.array([-np.inf, 1.0, 0.0, -np.inf])
    assert resampling.multinomial(log_w, np.array([uniform])).tolist() == [1 if uniform == 0 else 2]


@given(methods, st.lists(anything, min_size=1, max_size=12))
def test_probabilities_add_up_to_one_where_any_thought_has_weight(
    method: resampling.Method, log_w: list[float]
) -> None:
    total = resampling.probabilities(method, np.array(log_w)).sum()
    assert total == pytest.approx(1) or (total == 0 and not np.isfinite(log_w).any())


def test_an_unknown_rule_selects_nothing() -> None:
    with pytest.raises(AssertionError, match="best"):
        select("best", np.zeros(3), 1, 0)


def plain(
    method: resampling.Method, log_w: np.ndarray, count: int, generator: np.random.Generator
) -> list[int]:
    """The rules of one chunk, as the first release wrote them."""
    cumulative = np.cumsum(normalised(log_w))

    def inverted(uniforms: np.ndarray) -> np.ndarray:
        if not cumulative[-1] > 0:
            return np.full(count, -1)
        targets = np.minimum(uniforms * cumulative[-1], np.nextafter(cumulative[-1], 0.0))
        return np.searchsorted(cumulative, targets, side="right")

    if method == "multinomial":
        chosen = inverted(generator.random(count))
    elif method == "systematic":
        uniform, order = generator.random(), generator.permutation(count)
        chosen = inverted((np.arange(count) + uniform) / count)[order]
    elif method == "argmax":
        chosen = np.full(count, np.argmax(log_w) if np.isfinite(log_w).any() else -1)
    elif method == "uniform":
        chosen = generator.integers(len(log_w), size=count)
    else:
        chosen = resampling.select(method, log_w, count, generator)
    numbers: list[int] = chosen.tolist()
    return numbers


tables = st.integers(1, 9).flatmap(
    lambda width: st.lists(st.lists(anything, min_size=width, max_size=width), min_size=1, max_size=8)
)


@given(methods, tables, st.integers(1, 3) | st.just(20), st.integers(0, 2**32), st.integers(0, 10**9))
def test_chunks_together_have_the_selections_of_each_alone(
    method: resampling.Method, rows: list[list[float]], count: int, seed: int, first: int
) -> None:
    log_w = np.array(rows)
    streams = seeds.Streams(seed, "select", (2,), range(first, first + len(rows)))
    expected = [plain(method, row, count, streams.generator(n)) for n, row in enumerate(log_w)]
    assert resampling.select_each(method, log_w, count, streams).tolist() == expected
    alone = [resampling.select(method, row, count, streams.generator(n)) for n, row in enumerate(log_w)]
    assert np.stack(alone).tolist() == expected


@pytest.mark.parametrize("method", get_args(resampling.Method))
def test_thousands_of_chunks_together_have_the_selections_of_each_alone(method: resampling.Method) -> None:
    log_w = np.random.default_rng(0).normal(0, 3, (3000, 5))
    streams = seeds.Streams(1, "select", (1,), range(3000))
    expected = [plain(method, row, 3, streams.generator(n)) for n, row in enumerate(log_w)]
    assert resampling.select_each(method, log_w, 3, streams).tolist() == expected


class Refused(seeds.Streams):
    """Streams whose first numbers are such that numpy's generator would draw others in their place."""

    def words(self, count: int) -> np.ndarray:
        number = 0 if self.purpose == "uniform" else 2**64 - 1
        return np.full((len(self.numbers), count), number, np.uint64)


@pytest.mark.parametrize("method", ["uniform", "systematic"])
def test_what_the_first_numbers_cannot_decide_the_generator_does(method: resampling.Method) -> None:
    """Of three thoughts: once in 2^32 draws; of three places: when all of the numbers are out of range."""
    log_w, streams = np.zeros((4, 3)), Refused(0, method, (), range(4))
    expected = [plain(method, row, 3, streams.generator(n)) for n, row in enumerate(log_w)]
    assert resampling.select_each(method, log_w, 3, streams).tolist() == expected
