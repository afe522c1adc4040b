"""What a selection looks like in figures: for the manifest of selected/, the report, and people
who have to decide whether to trust the weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lt_hpc.config.schema import MergeConfig
from lt_hpc.latent import diagnostics, intervals, running, weights
from lt_hpc.stages.choice import Chosen
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
PIECE = 2**15
"""Chunks whose figures are added up together: the same ones whatever the shards, so that rounding is the
same too."""
_PER_CHUNK = {
    "ess_mean": "ess",
    "selection_ess_mean": "selection_ess",
    "different_mean": "different",
    "effective_different_mean": "effective",
    "largest_weight_mean": "largest",
    "train_bound_nats_per_chunk": "bound",
    "cut_share": "cut",
}
"""Means over chunks -> columns of `_columns`."""


class Summary:
    """Takes the thoughts of one iteration, in order; selection goes by weights to the power alpha. It keeps
    12 bytes of each of the `most` chunks: its ESS and tokens, which are to be sorted."""

    def __init__(self, settings: MergeConfig, alpha: float, most: int, num_samples: int) -> None:
        self.settings, self.alpha, self.num_samples = settings, alpha, num_samples
        self.chunks = self.selected_cut = self._unusable = 0
        self.examples: list[WeighedThoughts] = []
        self._waiting: list[dict[str, np.ndarray]] = []
        self._ess, self._tokens = [np.zeros(0)], [np.zeros(0, np.int32)]
        self._edges = np.linspace(1, max(2, num_samples), HISTOGRAM_BINS + 1)
        self._histogram = np.zeros(HISTOGRAM_BINS, np.int64)
        self._documents = running.Documents()
        self._by_length, self._within = running.Correlation(), running.Correlation()
        self._tail = running.Tail(most * num_samples)

    def add(self, thoughts: Thoughts, selection_log_w: np.ndarray, chosen: Chosen) -> None:
        """Some more chunks: their thoughts, the log-weights that selection went by [N, K], and what was
        selected."""
        self.chunks += len(thoughts.chunk)
        self._unusable += int((~thoughts.usable).sum())
        selected = chosen.samples >= 0
        self.selected_cut += int(thoughts.cut[chosen.rows[selected], chosen.samples[selected]].sum())
        for row in np.flatnonzero(thoughts.usable)[: NUM_EXAMPLES - len(self.examples)].tolist():
            self.examples.append(_example(thoughts, row, chosen.of(row)))
        self._waiting.append(_columns(thoughts, selection_log_w))
        while sum(len(one["ess"]) for one in self._waiting) >= PIECE:
            every = _joined(self._waiting)
            self._waiting = [{name: values[PIECE:] for name, values in every.items()}]
            self._count({name: values[:PIECE] for name, values in every.items()})

    def statistics(self, precision: Precision | None) -> SelectionStatistics:
        """The figures of all chunks together, with what was measured of their arithmetic."""
        if any(len(one["ess"]) for one in self._waiting):
            self._count(_joined(self._waiting))
            self._waiting = []
        documents, found = self._documents.ratios()
        means = dict(zip(_PER_CHUNK, found, strict=True))
        means["cut_share"] = intervals.of_mean_share(*means["cut_share"], documents)
        mean_lengths = np.concatenate(self._tokens) / self.num_samples
        return SelectionStatistics(
            num_samples=self.num_samples,
            method=self.settings.method,
            weights=self.settings.weights,
            alpha=self.alpha,
            **{name: value for name, (value, _) in means.items()},
            intervals=PerChunk(**{name: interval for name, (_, interval) in means.items()}),
            chunks=self.chunks,
            documents=documents,
            ess_histogram=Histogram(self._histogram.tolist(), self._edges.tolist()),
            ess_by_length=diagnostics.mean_by_length(np.concatenate(self._ess), mean_lengths),
            pareto_k_pooled=_as_json(self._tail.pareto_k()),
            selected_cut=self.selected_cut,
            fallback_chunks=self._unusable,
            length_correlation=self._by_length.value(),
            length_correlation_within=self._within.value(),
            examples=self.examples,
            precision=precision,
        )

    def _count(self, found: dict[str, np.ndarray]) -> None:
        """The figures of some chunks that no others come between."""
        log_w, lengths, ess = found["log_w"], found["lengths"], found["ess"]
        self._documents.add(found["document"], np.stack([found[name] for name in _PER_CHUNK.values()]))
        self._histogram += np.histogram(ess, HISTOGRAM_BINS, (self._edges[0], self._edges[-1]))[0]
        self._ess.append(ess)
        self._tokens.append(lengths.sum(axis=1, dtype=np.int32))
        centred = _centred(log_w).ravel()
        self._by_length.add(lengths.ravel(), log_w.ravel())
        self._within.add(_centred(lengths).ravel(), centred)
        self._tail.add(centred)


def _columns(thoughts: Thoughts, selection_log_w: np.ndarray) -> dict[str, np.ndarray]:
    """What the figures are made of: columns [N] and [N, K]."""
    log_w, kinds, normalised = thoughts.log_w, thoughts.kinds, thoughts.normalised
    exact = selection_log_w is log_w
    return {
        "log_w": log_w,
        "lengths": thoughts.lengths,
        "document": thoughts.document,
        "ess": thoughts.ess,
        "selection_ess": thoughts.ess if exact else weights.effective_sample_size(selection_log_w),
        "different": (kinds == np.arange(kinds.shape[1])).sum(axis=1),
        "effective": weights.inverse_simpson(weights.of_different(normalised, kinds)),
        "largest": normalised.max(axis=1),
        "bound": weights.log_mean_exp(log_w),
        "cut": thoughts.cut.mean(axis=1),
    }


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}


def _as_json(pareto_k: float) -> float | None:
    # Equal weights have -inf, which is not JSON.
    return None if np.isnan(pareto_k) else max(pareto_k, -1.0)


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
