"""Held-out figures of a model from what was measured of each chunk. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from lt_hpc.latent import intervals, weights
from lt_hpc.store.figures import HeldOut, Interval, PerMeasure
from lt_hpc.store.measured import Measured

Measure = tuple[float | None, Interval | None]
"""A figure and its 95% interval; None and None where it can't be measured."""
NOTHING: Measure = (None, None)


def summary(measured: Measured, answers: str) -> HeldOut:
    """The figures with 95% intervals over documents. None where something can't be measured on this
    corpus, or of this model. `answers`: which of `measured.CORRECT` count as the model's accuracy."""
    found = {**_of_text(measured), **_of_thoughts(measured), **_of_answers(measured, answers)}
    by_k = _by_k(measured)
    values: dict[str, Any] = {name: value for name, (value, _) in found.items()}
    log_w = measured.log_weights
    return HeldOut(
        **values,
        bound_by_k=[value for value, _ in by_k],
        intervals=PerMeasure(
            **{name: interval for name, (_, interval) in found.items()},
            bound_by_k=[interval for _, interval in by_k],
        ),
        ess_mean=float(weights.effective_sample_size(log_w).mean()) if log_w is not None else None,
        cut_share=float(measured.cut.sum() / log_w.size)
        if log_w is not None and measured.cut is not None
        else None,
        num_samples=log_w.shape[1] if log_w is not None else None,
        chunks=len(measured.tokens),
        documents=len(np.unique(measured.document)),
        tokens=int(measured.tokens.sum()),
        bytes=int(measured.bytes.sum()),
        estimate_chunks=len(measured.estimated),
        estimate_samples=measured.many_log_weights.shape[1] if log_w is not None else None,
    )


def _of_text(measured: Measured) -> dict[str, Measure]:
    tokens, size = measured.tokens, measured.bytes
    found = {
        "nll": _ratio(measured, measured.nll, tokens),
        "nll_per_byte": _ratio(measured, measured.nll, size),
    }
    marked = measured.nll_marked
    if marked is not None:
        found["nll_marked"] = _ratio(measured, marked, tokens)
        found["nll_marked_per_byte"] = _ratio(measured, marked, size)
    return found


def _of_thoughts(measured: Measured) -> dict[str, Measure]:
    """The bound, and log p(x | c) estimated from many thoughts on some chunks."""
    tokens, rows, many = measured.tokens, measured.estimated, measured.many_log_weights
    found: dict[str, Measure] = {}
    if len(rows):
        estimate = weights.log_mean_exp(many)
        found["log_likelihood"] = _ratio(measured, estimate, tokens[rows], rows)
        found["log_likelihood_gain"] = _gain(measured, many, rows)
    log_w = measured.log_weights
    if log_w is None:
        return found
    bound = weights.log_mean_exp(log_w)
    if len(rows):
        found["bound_gap"] = _ratio(measured, estimate - bound[rows], tokens[rows], rows)
    return found | {
        "bound": _ratio(measured, bound, tokens),
        "bound_per_byte": _ratio(measured, bound, measured.bytes),
        "bound_gain": _gain(measured, log_w, np.arange(len(tokens))),
    }


def _gain(measured: Measured, log_w: np.ndarray, rows: np.ndarray) -> Measure:
    """Of all thoughts of the chunks `rows` over half of them, nats per token."""
    documents = measured.document[rows]
    return intervals.positive_ratio(
        intervals.by_document(documents, weights.gain(log_w)),
        intervals.by_document(documents, measured.tokens[rows]),
    )


def _by_k(measured: Measured) -> list[Measure]:
    if measured.log_weights is None:
        return []
    bounds = weights.bounds_by_k(measured.log_weights)
    return [_ratio(measured, column, measured.tokens) for column in bounds.T]


def _of_answers(measured: Measured, answers: str) -> dict[str, Measure]:
    sampled = measured.correct_sampled
    likelihood = measured.likelihood_prior
    return {
        "accuracy": _share(measured.correct[answers]),
        "accuracy_direct": _share(measured.correct["direct"]),
        "accuracy_majority": _share(measured.correct["majority"]),
        "accuracy_pass": _share(np.asarray(sampled.any(axis=1))) if sampled.size else NOTHING,
        "accuracy_sampled": _mean_share(sampled.mean(axis=1)) if sampled.size else NOTHING,
        "likelihood_prior": _mean_share(likelihood) if likelihood.size else NOTHING,
    }


def _share(correct: np.ndarray) -> Measure:
    return intervals.share(int(correct.sum()), correct.size) if correct.size else NOTHING


def _mean_share(shares: np.ndarray) -> Measure:
    return intervals.mean_share(shares, np.ones(len(shares)))


def _ratio(
    measured: Measured, numerators: np.ndarray, denominators: np.ndarray, rows: np.ndarray | None = None
) -> Measure:
    """Sum of `numerators` over sum of `denominators`, both of all chunks or of `rows`."""
    documents = measured.document if rows is None else measured.document[rows]
    if not len(documents):
        return NOTHING
    return intervals.ratio(
        intervals.by_document(documents, numerators), intervals.by_document(documents, denominators)
    )
