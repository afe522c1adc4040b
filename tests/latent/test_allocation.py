"""How many thoughts chunks get: the total, the bounds, who gets more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent.allocation import MOST, allocate


@st.composite
def earlier(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """ESS and thoughts of the chunks of an earlier iteration, some of which were not in it, and K."""
    num_samples = draw(st.integers(1, 20))
    drawn = draw(st.lists(st.integers(0, MOST * num_samples), min_size=1, max_size=60))
    parts = draw(st.lists(st.floats(0, 1), min_size=len(drawn), max_size=len(drawn)))
    ess = [1 + part * (count - 1) if count else 0.0 for part, count in zip(parts, drawn, strict=True)]
    return np.array(ess), np.array(drawn), num_samples


@given(earlier())
def test_the_total_is_exact_and_every_chunk_is_within_the_bounds(
    of: tuple[np.ndarray, np.ndarray, int],
) -> None:
    ess, drawn, num_samples = of
    found = allocate(ess, drawn, num_samples)
    assert found.sum() == num_samples * len(drawn)
    assert found.min() >= 1 and found.max() <= MOST * num_samples
    assert (found[drawn == 0] == num_samples).all(), "what was not there is allocated uniformly"


@given(earlier())
def test_a_lower_ess_of_as_many_thoughts_never_gets_fewer(of: tuple[np.ndarray, np.ndarray, int]) -> None:
    ess, drawn, num_samples = of
    found = allocate(ess, drawn, num_samples)
    for count in np.unique(drawn[drawn > 0]):
        alike = drawn == count
        order = np.argsort(ess[alike], kind="stable")
        lower, ordered = ess[alike][order], found[alike][order]
        different = np.diff(lower) > 0
        assert (np.diff(ordered)[different] <= 0).all()
        assert (np.abs(np.diff(ordered))[~different] <= 1).all(), "of equal ones one more at most"


@given(earlier(), st.randoms(use_true_random=False))
def test_the_order_of_the_chunks_matters_to_equal_ones_alone(
    of: tuple[np.ndarray, np.ndarray, int], random: np.random.RandomState
) -> None:
    ess, drawn, num_samples = of
    order = list(range(len(drawn)))
    random.shuffle(order)
    here, there = allocate(ess, drawn, num_samples), allocate(ess[order], drawn[order], num_samples)
    for kind in set(zip(ess, drawn, strict=True)):
        alike = [n for n, pair in enumerate(zip(ess, drawn, strict=True)) if pair == kind]
        moved = [n for n, old in enumerate(order) if old in alike]
        assert sorted(here[alike]) == sorted(there[moved])


def test_equal_weights_everywhere_or_one_thought_everywhere_say_nothing() -> None:
    for ess, drawn in ((np.full(5, 4.0), np.full(5, 4)), (np.ones(5), np.ones(5, int))):
        assert allocate(ess, drawn, 4).tolist() == [4] * 5
        assert allocate(ess - 1e-9, drawn, 4).tolist() == [4] * 5, "nor does rounding"


def test_thoughts_go_in_proportion_to_the_deviation_of_the_weights() -> None:
    # 50 thoughts each: relative variances of .25 and 4, and little of the pooled one beside them.
    ess = np.array([50 / 1.25, 50 / 5.0])
    assert allocate(ess, np.array([50, 50]), 50).tolist() == pytest.approx([20, 80], abs=1)


def test_a_chunk_of_one_thought_is_not_taken_for_one_without_variance() -> None:
    ess, drawn = np.array([1.0, *[2.0] * 9, *[4.0] * 9]), np.array([1, *[4] * 18])
    found = allocate(ess, drawn, 4)
    assert found[1] > found[0] > found[-1]


def test_no_weight_at_all_counts_as_the_lowest_ess() -> None:
    found = allocate(np.array([0.0, 1.0, 3.0, 3.0]), np.full(4, 4), 4)
    assert found[0] == found[1] > found[2]


def test_the_allocation_brings_the_bounds_up_at_an_equal_total() -> None:
    """Lognormal weights, those of half of the chunks spread more; the ESS is that of an earlier draw."""
    generator = np.random.default_rng(0)
    spread = np.repeat([0.2, 1.5], 2000)

    def log_weights(counts: np.ndarray) -> list[np.ndarray]:
        return [generator.normal(-(s**2) / 2, s, n) for s, n in zip(spread, counts, strict=True)]

    def bounds(counts: np.ndarray) -> np.ndarray:
        return np.array([np.log(np.exp(one).mean()) for one in log_weights(counts)])

    uniform = np.full(len(spread), 4)
    ess = np.array([np.exp(w).sum() ** 2 / np.exp(2 * w).sum() for w in log_weights(uniform)])
    allocated = allocate(ess, uniform, 4)
    better = bounds(allocated) - bounds(uniform)
    assert better.mean() > 4 * better.std() / np.sqrt(len(better))
    means = np.array([np.exp(one).mean() for one in log_weights(allocated)])
    assert abs(means.mean() - 1) < 4 * means.std() / np.sqrt(len(means)), "and each stays unbiased"


def test_the_ess_of_the_same_weights_would_bias_their_mean() -> None:
    """Why it has to be an earlier iteration's: where weights that look bad are followed by more, and count
    with them, the mean is off."""
    generator = np.random.default_rng(0)
    weights = np.exp(generator.normal(-(1.5**2) / 2, 1.5, (20_000, 16)))  # of mean 1
    first = weights[:, :4]
    low = first.sum(axis=1) ** 2 / (first**2).sum(axis=1) < 2
    for kept, biased in (
        (first.mean(axis=1), False),
        (np.where(low, weights.mean(axis=1), first.mean(axis=1)), True),
    ):
        assert (abs(kept.mean() - 1) > 4 * kept.std() / np.sqrt(len(kept))) == biased
