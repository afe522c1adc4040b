"""The token sequences of the method, and one cut of the prefix for all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent import layout
from lt_hpc.latent.layout import Layout

SOL, EOL, PRIOR, POST = 100, 101, 102, 103
LAYOUT = Layout(SOL, EOL, PRIOR, POST)


def test_the_sequences_are_those_of_the_method() -> None:
    c, z, x = [1, 2], [3], [4, 5]
    assert LAYOUT.joint(c, z, x) == [1, 2, SOL, PRIOR, 3, EOL, 4, 5]
    assert LAYOUT.posterior(c, z, x) == [1, 2, SOL, EOL, 4, 5, SOL, POST, 3, EOL]
    assert LAYOUT.posterior_prompt(c, x) == [1, 2, SOL, EOL, 4, 5, SOL, POST]
    assert LAYOUT.joint([], z, x) == [SOL, PRIOR, 3, EOL, 4, 5]
    assert LAYOUT.posterior([], z, x) == [SOL, EOL, 4, 5, SOL, POST, 3, EOL]
    assert LAYOUT.joint_prompt(c) == [1, 2, SOL, PRIOR]
    assert LAYOUT.marked_prompt(c) == [1, 2, SOL, EOL]


@given(*[st.lists(st.integers(0, 99), max_size=12)] * 3)
def test_what_is_scored_continues_what_was_given(c: list[int], z: list[int], x: list[int]) -> None:
    """log q and log p(z | c) are over the same ids: the thought with its <EOL>, then nothing or x."""
    posterior, joint = LAYOUT.posterior(c, z, x), LAYOUT.joint(c, z, x)
    thought = [*z, EOL]
    assert posterior == LAYOUT.posterior_prompt(c, x) + thought
    assert joint == LAYOUT.joint_prompt(c) + thought + x
    assert len(posterior) - len(c) - len(z) - len(x) == layout.NUM_MARKERS


def test_without_room_there_is_no_prefix() -> None:
    assert layout.prefix_budgets(20, 10, np.array([30, 5, 4])).tolist() == [0, 0, 1]


@given(st.integers(0, 300), st.integers(1, 60), st.integers(1, 100))
def test_every_sequence_fits_the_context_after_the_cut(prefix: int, suffix: int, thought: int) -> None:
    context = 200
    (budget,) = layout.prefix_budgets(context, thought, np.array([suffix])).tolist()
    c = list(range(prefix))[max(0, prefix - budget) :]
    longest = LAYOUT.posterior(c, [7] * thought, [8] * suffix)
    assert len(longest) <= context
    assert c == list(range(prefix))[len(range(prefix)) - len(c) :], "the end of the prefix is kept"
    assert len(c) == prefix or len(longest) == context
