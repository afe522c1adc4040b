"""What a selection looks like in figures: for the manifest of selected/, the report, and people
who have to decide whether to trust the weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lt_hpc.config.schema import MergeConfig
from lt_hpc.latent import diagnostics, intervals, weights
from lt_hpc.stages.thoughts import Thoughts
from lt_hpc.store.figures import (
    Histogram,
    PerChunk,
    Precision,
    SelectionStatistics,
    WeighedThoughts,
)  # fmt: skip
from lt_hpc.store.manifest import Manifest

NUM_EXAMPLES = 5
HISTOGRAM_BINS = 20
_PER_CHUNK = {
    "ess_mean": "ess",
    "selection_ess_mean": "selection_ess",
    "different_mean": "different",
    "effective_different_mean": "effective",
    "largest_weight_mean": "largest",
    "train_bound_nats_per_chunk": "bound",
    "cut_share": "cut",
}
"""Means over chunks -> columns of `Summary`."""


class Summary:
    """Collects the shards of one iteration; selection goes by weights to the power alpha."""

    def __init__(self, settings: MergeConfig, alpha: float) -> None:
        self.settings, self.alpha = settings, alpha
        self.columns: dict[str, list[np.ndarray]] = {}
        self.selected_cut = 0
        self.examples: list[WeighedThoughts] = []

    def add(self, thoughts: Thoughts, selection_log_w: np.ndarray, chosen: list[list[int]]) -> None:
        """One shard: its thoughts, the log-weights that selection went by [N, K], and the
        selected indices, some for each of the N."""
        log_w, kinds = thoughts.log_w, thoughts.kinds
        found = {
            "log_w": log_w,
            "lengths": thoughts.lengths,
            "document": thoughts.document,
            "usable": thoughts.usable,
            "ess": weights.effective_sample_size(log_w),
            "selection_ess": weights.effective_sample_size(selection_log_w),
            "different": (kinds == np.arange(kinds.shape[1])).sum(axis=1),
            "effective": weights.inverse_simpson(weights.of_different(weights.normalised(log_w), kinds)),
            "largest": weights.normalised(log_w).max(axis=1),
            "bound": weights.log_mean_exp(log_w),
            "cut": thoughts.cut.mean(axis=1),
        }
        for name, column in found.items():
            self.columns.setdefault(name, []).append(column)
        self.selected_cut += sum(
            bool(thoughts.cut[row, k]) for row, ks in enumerate(chosen) for k in ks if k >= 0
        )
        for row in np.flatnonzero(thoughts.usable)[: NUM_EXAMPLES - len(self.examples)]:
            self.examples.append(_example(thoughts, int(row), chosen[row]))

    def statistics(self, precision: Precision | None) -> SelectionStatistics:
        """The figures of all shards together, with what was measured of their arithmetic."""
        all_of = {name: np.concatenate(columns) for name, columns in self.columns.items()}
        log_w, lengths, ess = all_of["log_w"], all_of["lengths"], all_of["ess"]
        ones = np.ones(len(ess))
        sizes = intervals.by_document(all_of["document"], ones)
        means = {
            name: (intervals.mean_share if name == "cut_share" else intervals.ratio)(
                intervals.by_document(all_of["document"], all_of[column]), sizes
            )
            for name, column in _PER_CHUNK.items()
        }
        num_samples = log_w.shape[1]
        counts, edges = np.histogram(ess, bins=HISTOGRAM_BINS, range=(1, max(2, num_samples)))
        return SelectionStatistics(
            num_samples=num_samples,
            method=self.settings.method,
            weights=self.settings.weights,
            alpha=self.alpha,
            **{name: value for name, (value, _) in means.items()},
            intervals=PerChunk(**{name: interval for name, (_, interval) in means.items()}),
            chunks=len(ess),
            documents=len(sizes),
            ess_histogram=Histogram(counts.tolist(), edges.tolist()),
            ess_by_length=diagnostics.mean_by_length(ess, lengths.mean(axis=1)),
            pareto_k_pooled=_pareto(log_w),
            selected_cut=self.selected_cut,
            fallback_chunks=int((~all_of["usable"]).sum()),
            length_correlation=diagnostics.correlation(lengths.ravel(), log_w.ravel()),
            length_correlation_within=diagnostics.correlation(
                _centred(lengths).ravel(), _centred(log_w).ravel()
            ),
            examples=self.examples,
            precision=precision,
        )


def _pareto(log_w: np.ndarray) -> float | None:
    found = diagnostics.pareto_k(_centred(log_w).ravel())
    # Equal weights have -inf, which is not JSON.
    return None if np.isnan(found) else max(found, -1.0)


def _centred(values: np.ndarray) -> np.ndarray:
    """[N, K] without each chunk's own mean: whether selection prefers long thoughts, not whether long chunks
    have low weights."""
    return np.asarray(values - values.mean(axis=1, keepdims=True))


def _example(thoughts: Thoughts, row: int, chosen: list[int]) -> WeighedThoughts:
    """One chunk's K thoughts with the parts of their log-weights."""
    record = thoughts.table.slice(row, 1).to_pylist()[0]
    return WeighedThoughts(
        chunk=record["chunk"],
        thoughts=record["thoughts"],
        weights=weights.normalised(thoughts.log_w[row]).tolist(),
        selected=chosen,
        log_q=[value if np.isfinite(value) else None for value in record["log_q"]],
        **{name: record[name] for name in ("log_prior", "log_likelihood", "log_proposal")},
    )


def precision(records: Iterable[Manifest]) -> Precision | None:
    """What the shards measured of their arithmetic, weighted by chunks; None where sampling ran
    in float32 and nothing was measured."""
    measured = [Precision.of(record.statistics.get("precision")) for record in records]
    found = [one for one in measured if one]
    if not found:
        return None
    chunks = [one.chunks for one in found]

    def root_mean_square(values: list[float]) -> float:
        return float(np.sqrt(np.average(np.square(values), weights=chunks)))

    return Precision(
        chunks=sum(chunks),
        outside_support=sum(one.outside_support for one in found),
        selection_change=float(np.average([one.selection_change for one in found], weights=chunks)),
        log_weight_deviation=root_mean_square([one.log_weight_deviation for one in found]),
        log_q_deviation_per_token=root_mean_square([one.log_q_deviation_per_token for one in found]),
    )
