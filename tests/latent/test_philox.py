"""Numbers of many generators at once are those of each alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent import philox

seed = st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1]) | st.integers(0, 2**64 - 1)


def alone(seed: int, count: int) -> list[int]:
    numbers: list[int] = np.random.Philox(seed).random_raw(count).tolist()
    return numbers


@given(st.lists(seed, max_size=30), st.integers(1, 13))
def test_numbers_are_those_of_numpy(seeds: list[int], count: int) -> None:
    found = philox.words(np.array(seeds, np.uint64), count)
    assert found.shape == (len(seeds), count)
    assert found.tolist() == [alone(seed, count) for seed in seeds]


def test_numbers_of_thousands_of_seeds_are_those_of_numpy() -> None:
    seeds = np.random.default_rng(0).integers(0, 2**63, 20_000, dtype=np.uint64)
    assert philox.words(seeds, 2).tolist() == [alone(seed, 2) for seed in seeds.tolist()]
