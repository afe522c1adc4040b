"""What chunks train on, against the rule of one chunk."""

from __future__ import annotations

from typing import get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.config.schema import MergeConfig
from lt_hpc.latent import resampling, seeds
from lt_hpc.stages import choice

log_weight = st.one_of(st.floats(-20, 20), st.just(-np.inf), st.sampled_from([0.0, 1.0]))
merges = st.builds(
    MergeConfig,
    method=st.sampled_from(get_args(resampling.Method)),
    select=st.sampled_from(["one", "weighted"]),
    num_selected=st.integers(1, 3),
).filter(lambda merge: merge.select == "one" or merge.num_selected == 1)
chunks = st.integers(1, 9).flatmap(
    lambda width: st.lists(
        st.tuples(
            st.lists(log_weight, min_size=width, max_size=width),
            st.lists(st.sampled_from("abcdefghi"), min_size=width, max_size=width),
            st.booleans(),
        ),
        max_size=8,
    ).map(lambda rows: (width, rows))
)
"""K; of each chunk its log-weights, thoughts, and whether any of these came to its end."""


def of_one(
    merge: MergeConfig, log_w: np.ndarray, kinds: np.ndarray, usable: bool, generator: np.random.Generator
) -> tuple[list[int], list[float]]:
    """Indices and weights of one chunk, as the first release with both rules found them."""
    if not usable:
        return [-1] * merge.num_selected, [1.0] * merge.num_selected
    if merge.select == "one":
        chosen = resampling.select(merge.method, log_w, merge.num_selected, generator)
        return chosen.tolist(), [1.0] * len(chosen)
    drawn = np.zeros(len(log_w))
    np.add.at(drawn, kinds, resampling.probabilities(merge.method, log_w))
    kept = np.flatnonzero(drawn >= choice.LEAST_WEIGHT)
    if not len(kept):
        return [-1], [1.0]
    return kept.tolist(), (drawn[kept] / drawn[kept].sum()).tolist()


@given(merges, chunks, st.integers(0, 2**32))
def test_chunks_together_train_on_what_each_alone_would(
    merge: MergeConfig, found: tuple[int, list[tuple[list[float], list[str], bool]]], seed: int
) -> None:
    width, rows = found
    log_w = np.array([row[0] for row in rows], float).reshape(-1, width)
    kinds = np.array([[row[1].index(one) for one in row[1]] for row in rows], np.int64).reshape(-1, width)
    usable = np.array([row[2] for row in rows], bool)
    streams = seeds.Streams(seed, "select", (1,), range(len(rows)))
    chosen = choice.choose(merge, log_w, kinds, usable, streams)
    expected = [
        of_one(merge, log_w[n], kinds[n], bool(usable[n]), streams.generator(n)) for n in range(len(rows))
    ]
    assert [chosen.of(row) for row in range(len(rows))] == [samples for samples, _ in expected]
    assert chosen.loss_weights.tolist() == [weight for _, losses in expected for weight in losses]
    assert chosen.rows.tolist() == [row for row, (samples, _) in enumerate(expected) for _ in samples]


def test_the_weights_of_many_different_thoughts_are_those_of_a_chunk_alone() -> None:
    """Sums of more than eight numbers depend on their order."""
    log_w = np.random.default_rng(0).normal(0, 4, (200, 33))
    kinds = np.tile(np.arange(33), (200, 1))
    merge = MergeConfig(select="weighted")
    chosen = choice.choose(
        merge, log_w, kinds, np.ones(200, bool), seeds.Streams(0, "select", (1,), range(200))
    )
    expected = [
        of_one(merge, *both, True, np.random.default_rng()) for both in zip(log_w, kinds, strict=True)
    ]
    assert chosen.loss_weights.tolist() == [weight for _, losses in expected for weight in losses]
