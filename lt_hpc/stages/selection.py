"""What a selection looks like in figures: for the manifest of selected/, the report, and people
who have to decide whether to trust the weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lt_hpc.latent import diagnostics, weights
from lt_hpc.stages.thoughts import Thoughts
from lt_hpc.store.figures import Histogram, Pareto, Precision, SelectionStatistics, WeighedThoughts
from lt_hpc.store.manifest import Manifest

NUM_EXAMPLES = 5
HISTOGRAM_BINS = 20


class Summary:
    """Collects the shards of one iteration; selection goes by weights of this kind, to the power alpha."""

    def __init__(self, alpha: float, kind: str) -> None:
        self.alpha, self.kind = alpha, kind
        self.log_w: list[np.ndarray] = []
        self.selection_log_w: list[np.ndarray] = []
        self.finished: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []
        self.chosen: list[np.ndarray] = []
        self.examples: list[WeighedThoughts] = []

    def add(self, thoughts: Thoughts, selection_log_w: np.ndarray, chosen: np.ndarray) -> None:
        """One shard: its thoughts, the log-weights that selection went by [N, K], and the
        selected indices [N, D]."""
        self.log_w.append(thoughts.log_w)
        self.selection_log_w.append(selection_log_w)
        self.finished.append(thoughts.finished)
        self.lengths.append(thoughts.lengths)
        self.chosen.append(chosen)
        for row in np.flatnonzero(thoughts.finished.any(axis=1))[: NUM_EXAMPLES - len(self.examples)]:
            self.examples.append(_example(thoughts, int(row), chosen[row]))

    def statistics(self, precision: Precision | None) -> SelectionStatistics:
        """The figures of all shards together, with what was measured of their arithmetic."""
        log_w, finished, lengths = map(np.concatenate, (self.log_w, self.finished, self.lengths))
        chosen = np.concatenate(self.chosen)
        usable = finished.any(axis=1)
        ess = weights.effective_sample_size(log_w[usable])
        num_samples = log_w.shape[1]
        counts, edges = np.histogram(ess, bins=HISTOGRAM_BINS, range=(1, max(2, num_samples)))
        selection_ess = weights.effective_sample_size(np.concatenate(self.selection_log_w)[usable])
        chunk_lengths = lengths[usable].mean(axis=1)
        return SelectionStatistics(
            num_samples=num_samples,
            weights=self.kind,
            alpha=self.alpha,
            ess_mean=_mean(ess, empty=0.0),
            selection_ess_mean=_mean(selection_ess, empty=0.0),
            ess_histogram=Histogram(counts.tolist(), edges.tolist()),
            ess_by_length=diagnostics.mean_by_length(ess, chunk_lengths) if len(ess) else [],
            largest_weight_mean=_mean(weights.normalised(log_w[usable]).max(axis=1), empty=0.0),
            pareto_k=_pareto(log_w[usable]),
            train_bound_nats_per_chunk=_mean(weights.log_mean_exp(log_w[usable])),
            unfinished_share=float((~finished).mean()) if finished.size else 0.0,
            selected_unfinished=int(_selected_unfinished(finished, chosen)),
            fallback_chunks=int((~usable).sum()),
            length_correlation=diagnostics.correlation(lengths[finished], log_w[finished]),
            length_correlation_within=_within_chunks(lengths, log_w, finished),
            examples=self.examples,
            precision=precision,
        )


def _mean(values: np.ndarray, empty: float | None = None) -> float | None:
    return float(values.mean()) if values.size else empty


def _selected_unfinished(finished: np.ndarray, chosen: np.ndarray) -> int:
    """How many selected thoughts have no <EOL>: 0, or something is broken."""
    rows, draws = np.nonzero(chosen >= 0)
    return int((~finished[rows, chosen[rows, draws]]).sum())


def _pareto(log_w_NK: np.ndarray) -> Pareto | None:
    """Of the chunks whose Pareto k can be estimated; None without any, as when K is too small."""
    shapes = np.array([diagnostics.pareto_k(log_w_K) for log_w_K in log_w_NK])
    shapes = shapes[~np.isnan(shapes)]
    if not shapes.size:
        return None
    shapes = np.maximum(shapes, -1.0)  # equal weights have -inf, which is not JSON
    return Pareto(len(shapes), float(np.median(shapes)), float((shapes > 0.7).mean()))


def _within_chunks(lengths: np.ndarray, log_w: np.ndarray, finished: np.ndarray) -> float | None:
    """Arrays [N, K]. Correlation of thought length and log-weight after each chunk's own means are taken off:
    whether selection prefers long or short thoughts, not whether long chunks have low weights."""
    count = np.maximum(finished.sum(axis=1, keepdims=True), 1)

    def centred(values: np.ndarray) -> np.ndarray:
        known = np.where(finished, values, 0.0)
        return np.asarray((known - known.sum(axis=1, keepdims=True) / count)[finished])

    return diagnostics.correlation(centred(lengths), centred(log_w))


def _example(thoughts: Thoughts, row: int, chosen: np.ndarray) -> WeighedThoughts:
    """One chunk's K thoughts with the parts of their log-weights."""
    record = thoughts.table.slice(row, 1).to_pylist()[0]
    parts = {
        name: [value if ok else None for value, ok in zip(record[name], record["finished"], strict=True)]
        for name in ("log_prior", "log_likelihood", "log_q")
    }
    return WeighedThoughts(
        chunk=record["chunk"],
        thoughts=record["thoughts"],
        weights=weights.normalised(thoughts.log_w[row]).tolist(),
        selected=chosen.tolist(),
        **parts,
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
