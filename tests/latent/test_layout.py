"""The token sequences of the method, and one cut of the prefix for all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent import layout, schedule, seeds
from lt_hpc.latent.layout import Layout

SOL, EOL, PRIOR, POST = 100, 101, 102, 103
LAYOUT = Layout(SOL, EOL, PRIOR, POST)


def test_the_sequences_are_those_of_the_method() -> None:
    c, z, x = [1, 2], [3], [4, 5]
    assert LAYOUT.joint(c, z, x) == [1, 2, SOL, PRIOR, 3, EOL, 4, 5]
    assert LAYOUT.posterior(c, z, x) == [1, 2, SOL, EOL, 4, 5, SOL, POST, 3, EOL]
    assert LAYOUT.posterior_prompt(c, x) == [1, 2, SOL, EOL, 4, 5, SOL, POST]
    assert LAYOUT.joint([], z, x) == [SOL, PRIOR, 3, EOL, 4, 5]


@given(st.integers(0, 300), st.integers(1, 60), st.integers(1, 100))
def test_every_sequence_fits_the_context_after_the_cut(prefix: int, suffix: int, thought: int) -> None:
    context = 200
    c = layout.cut_prefix(range(prefix), layout.prefix_budget(context, thought, suffix))
    longest = LAYOUT.posterior(c, [7] * thought, [8] * suffix)
    assert len(longest) <= context
    assert c == list(range(prefix))[len(range(prefix)) - len(c) :], "the end of the prefix is kept"
    assert len(c) == prefix or len(longest) == context


@given(st.tuples(st.integers(0, 99), st.integers(0, 10**9), st.integers(0, 64)), st.integers(0, 2**31))
def test_each_draw_has_a_seed_of_its_own(path: tuple[int, int, int], run_seed: int) -> None:
    iteration, chunk, sample = path
    others = [(iteration + 1, chunk, sample), (iteration, chunk + 1, sample), (iteration, chunk, sample + 1)]
    seed = seeds.derive(run_seed, "sample", *path)
    assert seed == seeds.derive(run_seed, "sample", *path)
    assert len({seed, *(seeds.derive(run_seed, "sample", *other) for other in others)}) == 4
    assert seed != seeds.derive(run_seed, "select", *path)


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seeds.derive(0, "sample", 1, 2, 3) == 5914143555476935160


@given(st.sampled_from(["cosine", "wsd"]), st.integers(1, 500), st.integers(0, 50), st.floats(0, 1))
def test_a_schedule_stays_between_final_and_peak_after_its_warmup(
    name: str, steps: int, warmup: int, final: float
) -> None:
    values = [schedule.learning_rate(name, step, steps, warmup, final) for step in range(steps)]
    after = values[warmup:]
    assert all(final - 1e-9 <= value <= 1 + 1e-9 for value in after)
    assert after == sorted(after, reverse=True)
    assert values[:warmup] == sorted(values[:warmup])
