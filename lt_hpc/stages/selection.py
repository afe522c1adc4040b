"""What a selection looks like in figures: for the manifest of selected/, the report, and people
who have to decide whether to trust the weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
from lt_hpc.store.lists import slices
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
"""Means over chunks -> columns of `_figures`."""


@dataclass(frozen=True)
class Weighed:
    """Chunks with as many thoughts each: the log-weights that selection went by [N, K], and what was
    selected."""

    thoughts: Thoughts
    selection_log_w: np.ndarray
    chosen: Chosen


@dataclass(frozen=True)
class _Figures:
    """Of N chunks, columns [N], and of their S thoughts end to end, columns [S]; `ends` [N + 1]."""

    of_chunks: dict[str, np.ndarray]
    of_thoughts: dict[str, np.ndarray]

    @property
    def ends(self) -> np.ndarray:
        return np.append(0, np.cumsum(self.of_chunks["samples"]))

    def part(self, start: int, stop: int) -> _Figures:
        """Of the chunks in this range."""
        first, last = self.ends[[start, stop]].tolist()
        return _Figures(
            {name: values[start:stop] for name, values in self.of_chunks.items()},
            {name: values[first:last] for name, values in self.of_thoughts.items()},
        )

    def sorted(self) -> _Figures:
        """In the order of the chunks."""
        order = np.argsort(self.of_chunks["chunk"])
        starts, lengths = self.ends[order], self.of_chunks["samples"][order]
        return _Figures(
            {name: values[order] for name, values in self.of_chunks.items()},
            {name: slices(values, starts, lengths)[0] for name, values in self.of_thoughts.items()},
        )


class Summary:
    """Takes the thoughts of one iteration, in order; selection goes by weights to the power alpha. It keeps
    16 bytes of each of the `most` chunks: its ESS, thoughts and tokens, which are to be sorted. A chunk has
    `num_samples` thoughts on average and at most `most_samples`."""

    def __init__(
        self, settings: MergeConfig, alpha: float, most: int, num_samples: int, most_samples: int
    ) -> None:
        self.settings, self.alpha, self.num_samples = settings, alpha, num_samples
        self.chunks = self.samples = self.selected_cut = self._unusable = 0
        self.examples: list[WeighedThoughts] = []
        self._waiting: list[_Figures] = []
        self._ess: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []
        self._tokens: list[np.ndarray] = []
        self._edges = np.linspace(1, max(2, most_samples), HISTOGRAM_BINS + 1)
        self._histogram = np.zeros(HISTOGRAM_BINS, np.int64)
        self._documents = running.Documents()
        self._by_length, self._within = running.Correlation(), running.Correlation()
        self._tail = running.Tail(most * num_samples)

    def add(self, weighed: Sequence[Weighed]) -> None:
        """Some more chunks, those with as many thoughts together."""
        for one in weighed:
            thoughts, chosen = one.thoughts, one.chosen
            self.chunks += len(thoughts.chunk)
            self.samples += thoughts.log_w.size
            self._unusable += int((~thoughts.usable).sum())
            selected = chosen.samples >= 0
            self.selected_cut += int(thoughts.cut[chosen.rows[selected], chosen.samples[selected]].sum())
        self._keep_examples(weighed)
        found = _joined([_figures(one.thoughts, one.selection_log_w) for one in weighed])
        self._waiting.append(found if len(weighed) == 1 else found.sorted())
        while sum(len(one.of_chunks["chunk"]) for one in self._waiting) >= PIECE:
            every = _joined(self._waiting)
            self._waiting = [every.part(PIECE, len(every.of_chunks["chunk"]))]
            self._count(every.part(0, PIECE))

    def _keep_examples(self, weighed: Sequence[Weighed]) -> None:
        """The first chunks that have a thought to select."""
        missing = NUM_EXAMPLES - len(self.examples)
        places = [
            (one.thoughts.chunk[row], one, row)
            for one in weighed
            for row in np.flatnonzero(one.thoughts.usable)[:missing].tolist()
        ]
        for _, one, row in sorted(places, key=lambda place: int(place[0]))[:missing]:
            self.examples.append(_example(one.thoughts, row, one.chosen.of(row)))

    def statistics(self, precision: Precision | None) -> SelectionStatistics:
        """The figures of all chunks together, with what was measured of their arithmetic."""
        if any(len(one.of_chunks["chunk"]) for one in self._waiting):
            self._count(_joined(self._waiting))
            self._waiting = []
        counts = np.concatenate(self._counts)
        documents, found = self._documents.ratios()
        means = dict(zip(_PER_CHUNK, found, strict=True))
        means["cut_share"] = intervals.of_mean_share(*means["cut_share"], documents)
        mean_lengths = np.concatenate(self._tokens) / counts
        return SelectionStatistics(
            num_samples=self.num_samples,
            fewest_samples=int(counts.min()),
            most_samples=int(counts.max()),
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

    def _count(self, found: _Figures) -> None:
        """The figures of some chunks that no others come between."""
        chunks, thoughts = found.of_chunks, found.of_thoughts
        self._documents.add(chunks["document"], np.stack([chunks[name] for name in _PER_CHUNK.values()]))
        self._histogram += np.histogram(chunks["ess"], HISTOGRAM_BINS, (self._edges[0], self._edges[-1]))[0]
        self._ess.append(chunks["ess"])
        self._counts.append(chunks["samples"].astype(np.int32))
        self._tokens.append(chunks["tokens"])
        self._by_length.add(thoughts["lengths"], thoughts["log_w"])
        self._within.add(thoughts["lengths_centred"], thoughts["log_w_centred"])
        self._tail.add(thoughts["log_w_centred"])


def _figures(thoughts: Thoughts, selection_log_w: np.ndarray) -> _Figures:
    """What the figures are made of."""
    log_w, kinds, normalised = thoughts.log_w, thoughts.kinds, thoughts.normalised
    exact, lengths = selection_log_w is log_w, thoughts.lengths
    of_chunks = {
        "chunk": thoughts.chunk,
        "document": thoughts.document,
        "samples": np.full(len(log_w), thoughts.num_samples),
        "tokens": lengths.sum(axis=1, dtype=np.int32),
        "ess": thoughts.ess,
        "selection_ess": thoughts.ess if exact else weights.effective_sample_size(selection_log_w),
        "different": (kinds == np.arange(kinds.shape[1])).sum(axis=1),
        "effective": weights.inverse_simpson(weights.of_different(normalised, kinds)),
        "largest": normalised.max(axis=1),
        "bound": weights.log_mean_exp(log_w),
        "cut": thoughts.cut.mean(axis=1),
    }
    of_thoughts = {
        "log_w": log_w,
        "log_w_centred": _centred(log_w),
        "lengths": lengths,
        "lengths_centred": _centred(lengths),
    }
    return _Figures(of_chunks, {name: values.ravel() for name, values in of_thoughts.items()})


def _joined(parts: Sequence[_Figures]) -> _Figures:
    one = parts[0]
    return _Figures(
        {name: np.concatenate([part.of_chunks[name] for part in parts]) for name in one.of_chunks},
        {name: np.concatenate([part.of_thoughts[name] for part in parts]) for name in one.of_thoughts},
    )


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
