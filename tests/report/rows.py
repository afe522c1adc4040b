"""Rows of a report in which all is well, but for what a test changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lt_hpc.report.changes import Change
from lt_hpc.report.rows import Compute, Iteration
from lt_hpc.store.figures import (
    Answer,
    HeldOut,
    Histogram,
    PerChunk,
    PerMeasure,
    Precision,
    SelectionStatistics,
    WeighedThoughts,
)  # fmt: skip

HELD_OUT = HeldOut(
    accuracy=0.5,
    nll=2.0,
    log_likelihood=-1.25,
    bound=-1.5,
    bound_by_k=[-2.0, -1.75, -1.5],
    intervals=PerMeasure(
        accuracy=[0.4, 0.6], nll=[1.75, 2.25], log_likelihood=[-1.5, -1.0], bound=[-1.75, -1.25],
        bound_by_k=[[-2.25, -1.75], [-2.0, -1.5], [-1.75, -1.25]],
    ),
    chunks=1000,
    documents=300,
    examples=[Answer("7 <SOL>", "<b>11</b>", "", None)],
)  # fmt: skip
SELECTION = SelectionStatistics(
    num_samples=4,
    method="multinomial",
    weights="exact",
    alpha=1.0,
    ess_mean=3.1,
    selection_ess_mean=3.1,
    different_mean=3.0,
    effective_different_mean=2.5,
    intervals=PerChunk(ess_mean=[3.0, 3.2], cut_share=[0.0, 0.02]),
    ess_histogram=Histogram([5, 0, 15, 10], [1.0, 1.75, 2.5, 3.25, 4.0]),
    ess_by_length=[(4.0, 3.5, 15), (8.0, 2.5, 15)],
    largest_weight_mean=0.4,
    pareto_k_pooled=0.3,
    cut_share=0.01,
    selected_cut=0,
    fallback_chunks=0,
    length_correlation_within=0.1,
    examples=[
        WeighedThoughts(
            chunk=3,
            thoughts=[[1, 2], [3], [1, 2], [4]],
            weights=[0.125, 0.75, 0.125, 0.0],
            log_prior=[-1.0, -2.0, -1.0, -9.0],
            log_likelihood=[-3.0, -1.5, -3.0, -8.0],
            log_q=[-0.5, -0.25, -0.5, None],
            log_proposal=[-0.5, -0.25, -0.5, -2.0],
            selected=[1],
        )
    ],
    precision=Precision(
        chunks=8, outside_support=2, selection_change=0.01, log_weight_deviation=0.125,
        log_q_deviation_per_token=0.01,
    ),
)  # fmt: skip
CHANGE = Change(
    verdict="better",
    proposal=0.01,
    values=PerMeasure(log_likelihood=0.25, bound=0.5, nll=-0.125, accuracy=0.1),
    intervals=PerMeasure(
        log_likelihood=[0.1, 0.4], bound=[0.3, 0.7], nll=[-0.2, -0.05], accuracy=[0.05, 0.15]
    ),
    documents=64,
    chunks=64,
)


def selection(**changed: Any) -> SelectionStatistics:
    """Statistics of weights that give no cause for a warning."""
    return replace(SELECTION, **changed)


def held_out(**changed: Any) -> HeldOut:
    """Held-out measures that give no cause for a warning."""
    return replace(HELD_OUT, **changed)


def iteration(number: int = 1, **changed: Any) -> Iteration:
    """A row that gives no cause for a warning."""
    row = Iteration(
        number=number,
        held_out=HELD_OUT,
        change=CHANGE,
        selection=SELECTION,
        tokens={"raw": 50, "computed": 250, "trained": 200, "prompt": 100, "sampled": 400, "scored": 300},
        compute=Compute(passes=2.5, text_passes=0.0, training_flops=3e12, e_step_flops=1e12),
        cut_prefixes=0,
        skipped_steps=0,
        losses=[3.0, 2.0, 1.5],
        seconds_by_stage={"sample": 20.0, "train": 10.0},
    )
    return replace(row, **changed)
