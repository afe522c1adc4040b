"""Figures in files outlive releases: they are read by their present names, and what is missing is None."""

from __future__ import annotations

import json

from lt_hpc.store.figures import (
    HeldOut,
    Histogram,
    PerChunk,
    PerMeasure,
    Precision,
    SelectionStatistics,
    WeighedThoughts,
    to_json,
)

SELECTION = SelectionStatistics(
    num_samples=2,
    weights="exact",
    alpha=1.0,
    ess_mean=1.5,
    ess_histogram=Histogram([3, 4], [1.0, 1.5, 2.0]),
    intervals=PerChunk(ess_mean=[1.25, 1.75]),
    pareto_k_pooled=0.4,
    train_bound_nats_per_chunk=-3.5,
    examples=[
        WeighedThoughts(
            4, [[1], [2]], [0.3, 0.7], [-1.0, None], [-2.0, None], [-3.0, -4.0], [-2.5, -3.5], [1]
        )
    ],
    precision=Precision(8, 1, 0.02, 0.3, 0.004),
)
HELD_OUT = HeldOut(
    nll=2.0,
    nll_per_byte=0.5,
    bound_by_k=[-2.0, None],
    intervals=PerMeasure(nll=[1.0, 3.0], bound_by_k=[[-3.0, -1.0], None]),
    chunks=9,
)


def test_records_come_back_from_json() -> None:
    assert SelectionStatistics.of(json.loads(json.dumps(to_json(SELECTION)))) == SELECTION
    assert HeldOut.of(json.loads(json.dumps(to_json(HELD_OUT)))) == HELD_OUT


def test_names_of_the_first_release_are_read() -> None:
    old = {
        "nll_a_byte": 0.5, "nll_marked_a_byte": 0.6, "bound_a_byte": -0.7,
        "intervals": {"nll_a_byte": [0.4, 0.6], "bound_by_k": []},
    }  # fmt: skip
    found = HeldOut.of(old)
    assert (found.nll_per_byte, found.nll_marked_per_byte, found.bound_per_byte) == (0.5, 0.6, -0.7)
    assert found.intervals.nll_per_byte == [0.4, 0.6]
    precision = {
        "chunks": 8, "outside_support": 1, "selection_change": 0.02, "log_weight_deviation": 0.3,
        "log_q_deviation_a_token": 0.004, "thoughts": 30,
    }  # fmt: skip
    selection = SelectionStatistics.of({"train_bound_nats_a_chunk": -3.5, "precision": precision})
    assert selection.train_bound_nats_per_chunk == -3.5
    assert selection.precision == SELECTION.precision


def test_what_is_missing_is_none_and_what_is_unknown_is_ignored() -> None:
    assert SelectionStatistics.of({}) == SelectionStatistics()
    found = SelectionStatistics.of({"ess_mean": 2.0, "of_a_later_release": 1, "pareto_k": {"median": 0.1}})
    assert found.ess_mean == 2.0 and found.pareto_k_pooled is None and found.precision is None
    assert HeldOut.of({"of_a_later_release": 1}) == HeldOut()
