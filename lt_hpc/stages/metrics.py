"""Held-out figures of a model from what was measured of each chunk. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lt_hpc.latent import diagnostics, weights
from lt_hpc.store import tables
from lt_hpc.store.figures import HeldOut, Interval, PerMeasure

ANSWERS = ("thought", "sampled", "direct")
Measure = tuple[float | None, Interval | None]
"""A figure and its 95% interval; None and None where it can't be measured."""


@dataclass(frozen=True)
class Measured:
    """`tables.MEASURED` of N chunks as arrays [N], log-weights [N, K]. NLL (positive) and log-weights in
    nats per chunk; `raw_*` count what the raw text predicts; `correct`: bool [N] for each of ANSWERS, empty
    where nothing was asked."""

    document: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    raw_tokens: np.ndarray
    raw_bytes: np.ndarray
    nll: np.ndarray
    nll_marked: np.ndarray
    log_weights: np.ndarray
    correct: dict[str, np.ndarray]

    @classmethod
    def of(cls, table: pa.Table, num_samples: int) -> Measured:
        """From a table of `num_samples` log-weights per chunk."""
        names = ("document", "tokens", "bytes", "raw_tokens", "raw_bytes", "nll", "nll_marked")
        correct = {name: table[f"correct_{name}"] for name in ANSWERS}
        return cls(
            **{name: table[name].to_numpy() for name in names},
            log_weights=tables.matrix(table["log_weights"], num_samples),
            correct={name: one.drop_null().to_numpy() for name, one in correct.items()},
        )


def summary(measured: Measured, answers: str, seed: int) -> HeldOut:
    """PerMeasure in nats per token unless named otherwise, with 95% intervals: of accuracy by Wilson's score,
    else by a bootstrap over documents drawn from `seed`. None where something can't be measured on
    this corpus. `answers`: which of ANSWERS count as the model's accuracy.

    The bound leaves out chunks without any finished thought, where it is -inf. The bound by K uses only
    chunks whose K thoughts all finished, so that every K is computed on the same chunks and the bound rises
    with K in expectation.
    """
    bounds = weights.bounds_by_k(measured.log_weights)
    finished = np.isfinite(measured.log_weights)
    defined, every_k = finished.any(axis=1), finished.all(axis=1)

    def ratio(numerators: np.ndarray, denominators: np.ndarray, kept: Any = True) -> Measure:
        return _ratio(measured.document, numerators, denominators, kept, seed)

    found: dict[str, Measure] = {
        "accuracy": _share(measured.correct[answers]),
        "accuracy_sampled": _share(measured.correct["sampled"]),
        "accuracy_direct": _share(measured.correct["direct"]),
        "nll": ratio(measured.nll, measured.raw_tokens),
        "nll_per_byte": ratio(measured.nll, measured.raw_bytes),
        "nll_marked": ratio(measured.nll_marked, measured.tokens),
        "nll_marked_per_byte": ratio(measured.nll_marked, measured.bytes),
        "bound": ratio(bounds[:, -1], measured.tokens, defined),
        "bound_per_byte": ratio(bounds[:, -1], measured.bytes, defined),
    }
    by_k = [ratio(column, measured.tokens, every_k) for column in bounds.T]
    ess = weights.effective_sample_size(measured.log_weights[defined])
    values: dict[str, Any] = {name: value for name, (value, _) in found.items()}
    return HeldOut(
        **values,
        bound_by_k=[value for value, _ in by_k],
        bound_undefined_chunks=int((~defined).sum()),
        bound_by_k_undefined_chunks=int((~every_k).sum()),
        intervals=PerMeasure(
            **{name: interval for name, (_, interval) in found.items()},
            bound_by_k=[interval for _, interval in by_k],
        ),
        ess_mean=float(ess.mean()) if ess.size else None,
        num_samples=measured.log_weights.shape[1],
        chunks=len(measured.tokens),
        tokens=int(measured.tokens.sum()),
        bytes=int(measured.bytes.sum()),
    )


def _share(correct: np.ndarray) -> Measure:
    if not correct.size:
        return None, None
    return float(correct.mean()), list(diagnostics.wilson_interval(int(correct.sum()), correct.size))


def _ratio(
    documents: np.ndarray, numerators: np.ndarray, denominators: np.ndarray, kept: Any, seed: int
) -> Measure:
    """Sum of `numerators` over sum of `denominators`, both [N] per chunk, of the chunks `kept` (bool [N], or
    True for all)."""
    kept = (denominators > 0) & kept  # a text of one token and no prefix predicts nothing
    if not kept.any():
        return None, None
    names, place = np.unique(documents[kept], return_inverse=True)
    sums = np.zeros((2, len(names)))
    np.add.at(sums[0], place, numerators[kept])
    np.add.at(sums[1], place, denominators[kept])
    generator = np.random.Generator(np.random.Philox(seed))
    return float(sums[0].sum() / sums[1].sum()), list(diagnostics.ratio_interval(sums[0], sums[1], generator))
