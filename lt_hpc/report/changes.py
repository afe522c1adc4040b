"""One model against another on the same held-out chunks: how far each figure has moved, and what that says.

Differences are paired: chunk by chunk, over the documents that both were measured on. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lt_hpc.latent import intervals, weights
from lt_hpc.store.figures import Interval, PerMeasure
from lt_hpc.store.measured import Measured

Verdict = Literal["better", "worse", "cannot be told"]
FEW_DOCUMENTS = 30
"""Intervals over fewer documents are wide, and hold less often than they say."""


@dataclass(frozen=True)
class Change:
    """The figures of `PerMeasure` of the later model less those of the earlier one, with 95% intervals.

    `verdict`: whether log p(x | c) has risen. `proposal`: how much of the difference in log p(x | c) may be
    that of its own estimate, nats per token, positive where that flatters the later model. `documents`,
    `chunks`: that log p(x | c) is compared on. `one_is_marked`: one of the two was trained without markers:
    its log p(x | c) also holds where c ends, which they tell the other.
    """

    verdict: Verdict
    proposal: float | None
    values: PerMeasure[float]
    intervals: PerMeasure[Interval]
    documents: int
    chunks: int
    one_is_marked: bool = False

    @property
    def bound_misleads(self) -> bool:
        """Whether the bound has risen beyond its interval, and log p(x | c) not."""
        bound = self.intervals.bound
        return bound is not None and bound[0] > 0 and self.verdict != "better"


def compare(before: Measured, after: Measured) -> Change:
    """How far the figures have moved from one model to another."""
    _, rows, others = np.intersect1d(before.chunk, after.chunk, return_indices=True)
    found: dict[str, Any] = {
        "nll": _moved(before, rows, before.nll[rows], after.nll[others]),
        **_accuracy(before, after, rows, others),
        **_sampled(before, after, rows, others),
    }
    if before.log_weights is not None and after.log_weights is not None:
        bounds = (
            weights.log_mean_exp(before.log_weights)[rows],
            weights.log_mean_exp(after.log_weights)[others],
        )
        found["bound"] = _moved(before, rows, *bounds)
    at, first, second = _estimated(before, after)
    proposal = None
    if len(at):
        found["log_likelihood"] = _moved(before, at, *map(weights.log_mean_exp, (first, second)))
        proposal, _ = _moved(before, at, weights.gain(second), weights.gain(first))
    moved = found.get("log_likelihood", (None, None))
    verdict = judge(moved[1], proposal or 0.0)
    marked = [one.nll_marked is not None for one in (before, after)]
    if marked[0] != marked[1] and verdict == ("better" if marked[1] else "worse"):
        verdict = "cannot be told"
    return Change(
        verdict=verdict,
        proposal=proposal,
        values=PerMeasure(bound_by_k=[], **{name: value for name, (value, _) in found.items()}),
        intervals=PerMeasure(bound_by_k=[], **{name: interval for name, (_, interval) in found.items()}),
        documents=len(np.unique(before.document[at])),
        chunks=len(at),
        one_is_marked=marked[0] != marked[1],
    )


def judge(interval: Interval | None, proposal: float) -> Verdict:
    """Better or worse where that holds in the whole interval of the difference, also when what the estimate
    itself may have gained or lost (`proposal`) is taken off. An estimate from samples is too low by about as
    much as twice the samples would still add to it: a tighter proposal alone would raise it by the difference
    of these gains."""
    if interval is None:
        return "cannot be told"
    if interval[0] > max(0.0, proposal):
        return "better"
    if interval[1] < min(0.0, proposal):
        return "worse"
    return "cannot be told"


def _moved(
    of: Measured, rows: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[float, Interval | None]:
    """Nats per token that the values of these rows have risen by."""
    documents = of.document[rows]
    return intervals.ratio(
        intervals.by_document(documents, after - before), intervals.by_document(documents, of.tokens[rows])
    )


def _estimated(before: Measured, after: Measured) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of `before` whose log p(x | c) both estimate, and the log-weights of both."""
    _, one, other = np.intersect1d(
        before.chunk[before.estimated], after.chunk[after.estimated], return_indices=True
    )
    return before.estimated[one], before.many_log_weights[one], after.many_log_weights[other]


def _accuracy(
    before: Measured, after: Measured, rows: np.ndarray, others: np.ndarray
) -> dict[str, tuple[float, Interval | None]]:
    """Of the answers that count for each: after a thought, or without one where it has learned none."""
    first, second = (
        one.correct["thought"] if one.correct["thought"].size else one.correct["direct"]
        for one in (before, after)
    )
    if not (first.size and second.size):
        return {}
    old, new = first[rows], second[others]
    return {
        "accuracy": intervals.share_difference(int((new & ~old).sum()), int((old & ~new).sum()), len(rows))
    }


def _sampled(
    before: Measured, after: Measured, rows: np.ndarray, others: np.ndarray
) -> dict[str, tuple[float, Interval | None]]:
    """Of a chunk's mean over its sampled answers, where both models gave such."""
    first, second = (one.correct_sampled for one in (before, after))
    if not (first.size and second.size):
        return {}
    moved, documents = second[others].mean(axis=1) - first[rows].mean(axis=1), before.document[rows]
    sums, counts = (intervals.by_document(documents, one) for one in (moved, np.ones(len(rows))))
    return {"accuracy_sampled": intervals.ratio(sums, counts)}
