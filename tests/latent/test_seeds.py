"""One seed a draw: its own, and the same on every machine and in every shard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent import seeds


@given(st.tuples(st.integers(0, 99), st.integers(0, 10**9), st.integers(0, 64)), st.integers(0, 2**31))
def test_each_draw_has_a_seed_of_its_own(path: tuple[int, int, int], run_seed: int) -> None:
    iteration, chunk, sample = path
    others = [(iteration + 1, chunk, sample), (iteration, chunk + 1, sample), (iteration, chunk, sample + 1)]
    seed = seeds.derive(run_seed, "sample", *path)
    assert seed == seeds.derive(run_seed, "sample", *path)
    assert len({seed, *(seeds.derive(run_seed, "sample", *other) for other in others)}) == 4
    assert seed != seeds.derive(run_seed, "select", *path)
    assert seed != seeds.derive(run_seed + 1, "sample", *path)


def test_no_two_draws_of_an_e_step_share_a_seed() -> None:
    paths = [
        (iteration, chunk, sample) for iteration in (1, 2, 12) for chunk in range(2000) for sample in range(4)
    ]
    assert len({seeds.derive(0, "sample", *path) for path in paths}) == len(paths)


def test_numbers_that_read_alike_end_to_end_are_other_paths() -> None:
    found = {seeds.derive(0, "sample", *path) for path in [(1, 23), (12, 3), (123,), (1, 2, 3), ()]}
    assert len(found) == 5
    assert seeds.derive(1, "1") != seeds.derive(11, "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((0, "sample", 1, 2, 3), 5914143555476935160), ((7, "order", 2, 0), 7638371070814215489)],
)
def test_seeds_are_the_same_on_every_machine(arguments: tuple[int, str, int], expected: int) -> None:
    assert seeds.derive(*arguments) == expected


@given(st.integers(0, 2**63 - 1), st.integers(1, 50), st.integers(0, 50))
def test_a_longer_thought_starts_with_the_same_numbers(seed: int, count: int, more: int) -> None:
    long = seeds.uniforms(seed, count + more)
    assert np.array_equal(long[:count], seeds.uniforms(seed, count))
    assert ((long >= 0) & (long < 1)).all()


def test_numbers_of_consecutive_samples_are_uniform_and_unrelated() -> None:
    draws = np.stack([seeds.uniforms(seeds.derive(0, "sample", 1, i), 2) for i in range(4000)])
    assert np.abs(draws.mean(axis=0) - 0.5).max() <= 4 * np.sqrt(1 / 12 / 4000)
    neighbours = np.corrcoef(draws[1:, 0], draws[:-1, 0])[0, 1]
    assert abs(neighbours) <= 4 / np.sqrt(4000)


@given(st.integers(0, 2**63), st.lists(st.integers(0, 10**12), max_size=5), st.integers(1, 5))
def test_draws_together_have_the_numbers_of_each_alone(seed: int, chunks: list[int], count: int) -> None:
    streams = seeds.Streams(seed, "select", (3,), chunks)
    assert streams.seeds().tolist() == [seeds.derive(seed, "select", 3, chunk) for chunk in chunks]
    for row, numbers in enumerate(streams.words(count).tolist()):
        assert streams.generator(row).bit_generator.random_raw(count).tolist() == numbers
