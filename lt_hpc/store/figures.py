"""What stages measure, as records that they write and the report reads. Pure data.

Files outlive releases: a figure that an older one did not write is None, one that is no longer
known is ignored, and one that was renamed is found under its present name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Generic, TypeVar

FORMER_NAMES = {
    "nll_a_byte": "nll_per_byte",
    "nll_marked_a_byte": "nll_marked_per_byte",
    "bound_a_byte": "bound_per_byte",
    "train_bound_nats_a_chunk": "train_bound_nats_per_chunk",
    "log_q_deviation_a_token": "log_q_deviation_per_token",
    "unfinished_share": "cut_share",
    "selected_unfinished": "selected_cut",
}
"""Names in files of release 0.1.0 -> present ones."""

Value = TypeVar("Value")
Record = TypeVar("Record")
Interval = Sequence[float]
"""[low, high] of a 95% interval."""


def to_json(record: Any) -> dict[str, Any]:
    """A record and those in it as JSON objects."""
    return asdict(record)


def _known(record: type[Any], raw: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a JSON object holds of the fields of a record."""
    present = {FORMER_NAMES.get(name, name): value for name, value in (raw or {}).items()}
    return {one.name: present[one.name] for one in fields(record) if one.name in present}


def _whole(record: type[Record], raw: Mapping[str, Any] | None) -> Record | None:
    """A record that says something only with all its figures; None where one is missing."""
    kind: type[Any] = record
    known = _known(kind, raw)
    return record(**known) if len(known) == len(fields(kind)) else None


@dataclass(frozen=True)
class PerMeasure(Generic[Value]):
    """A value for each held-out measure of a model. None where the corpus, or the model, does not allow one.

    Share of right answers: `accuracy` after a greedy thought (without one where the model has learned none),
    `accuracy_direct` without any; of several sampled thoughts `accuracy_sampled` the mean,
    `accuracy_majority` the most frequent answer's, `accuracy_pass` any one's. `likelihood_prior`: mean of
    p(x | c, z) over thoughts from the prior.

    Nats per token unless named otherwise, all over the same tokens: NLL (positive); `bound`, of a few
    thoughts per chunk, with its gain over the bound of half as many; `bound_by_k[k]`, that of k + 1.
    `log_likelihood`: log p(x | c) from many thoughts on some chunks, with its gain; `bound_gap`: how far the
    bound of these chunks is below it.
    """

    accuracy: Value | None = None
    accuracy_sampled: Value | None = None
    accuracy_majority: Value | None = None
    accuracy_pass: Value | None = None
    accuracy_direct: Value | None = None
    likelihood_prior: Value | None = None
    nll: Value | None = None
    nll_per_byte: Value | None = None
    nll_marked: Value | None = None
    nll_marked_per_byte: Value | None = None
    bound: Value | None = None
    bound_per_byte: Value | None = None
    bound_gain: Value | None = None
    bound_gap: Value | None = None
    log_likelihood: Value | None = None
    log_likelihood_gain: Value | None = None
    bound_by_k: list[Value | None] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """A held-out question as text, what the model thought and said, and what was expected (suffix)."""

    prefix: str | None = None
    suffix: str | None = None
    thought: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class Precision:
    """What float32 would have changed in some chunks that were sampled in low precision.

    `selection_change`: weight that moves between the thoughts of a chunk, 0 to 1 (mean total variation);
    `log_weight_deviation`: root mean square, nats; `log_q_deviation_per_token`: the same of log q, nats per
    token of the thought; `outside_support`: thoughts that float32 would not have sampled.
    """

    chunks: int
    outside_support: int
    selection_change: float
    log_weight_deviation: float
    log_q_deviation_per_token: float

    @classmethod
    def of(cls, raw: Mapping[str, Any] | None) -> Precision | None:
        """From a manifest of this release or an older one."""
        return _whole(cls, raw)


@dataclass(frozen=True)
class HeldOut(PerMeasure[float]):
    """metrics.json of one model. `ess_mean` and `cut_share`: of the bound's `num_samples` thoughts per chunk;
    `documents`, `tokens` and `bytes` of all chunks; `estimate_*`: of log p(x | c). `answers_too_long`: chunks
    whose answer has more tokens than may be generated, so that they always count as wrong. `precision`: of
    evaluate.dtype."""

    intervals: PerMeasure[Interval] = field(default_factory=PerMeasure)
    ess_mean: float | None = None
    cut_share: float | None = None
    num_samples: int | None = None
    chunks: int | None = None
    documents: int | None = None
    tokens: int | None = None
    bytes: int | None = None
    estimate_chunks: int | None = None
    estimate_samples: int | None = None
    answer_samples: int | None = None
    answers_too_long: int | None = None
    precision: Precision | None = None
    examples: list[Answer] = field(default_factory=list)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> HeldOut:
        """From metrics.json of this release or an older one."""
        intervals = PerMeasure[Interval](**_known(PerMeasure, raw.get("intervals")))
        examples = [Answer(**_known(Answer, one)) for one in raw.get("examples", [])]
        parts = {
            "intervals": intervals,
            "examples": examples,
            "precision": Precision.of(raw.get("precision")),
        }
        return cls(**{**_known(cls, raw), **parts})


@dataclass(frozen=True)
class Score:
    """A figure of a benchmark's task, or of a group of tasks: mean of the trials, each of which has its own.

    `filter`: how the harness reads an answer. `interval`: over items; of a group, and where items have no
    figure of their own, from the harness's standard error of one trial. `trials_interval`: over trials.
    `items`: None of a group.
    """

    task: str
    metric: str
    filter: str
    value: float
    interval: Interval | None
    trials: list[float]
    trials_interval: Interval | None
    items: int | None
    few_shot: int | None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Score | None:
        """From results.json."""
        return _whole(cls, raw)


@dataclass(frozen=True)
class Histogram:
    """`counts` [B] between `edges` [B + 1]; all bins have one width."""

    counts: list[int]
    edges: list[float]


@dataclass(frozen=True)
class WeighedThoughts:
    """The K thoughts of one chunk: token ids, normalised weights, and the parts of the log-weights in nats
    (log q None where q would never draw it). `selected`: indices among the K."""

    chunk: int
    thoughts: list[list[int]]
    weights: list[float]
    log_prior: list[float | None]
    log_likelihood: list[float | None]
    log_q: list[float | None]
    log_proposal: list[float | None]
    selected: list[int]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> WeighedThoughts | None:
        """From a manifest of this release or an older one, whose proposal was q."""
        return _whole(cls, {"log_proposal": raw.get("log_q"), **raw})


@dataclass(frozen=True)
class PerChunk(Generic[Value]):
    """A value for each mean over chunks of an E-step.

    `ess_mean`: of K samples, equal ones counted each. `selection_ess_mean`: of the weights that selection
    goes by; all others are of the exact ones. `different_mean`: different thoughts among the K.
    `effective_different_mean`: their effective number, equal ones' weights added (inverse Simpson).
    `largest_weight_mean`: share of the largest of the K. `train_bound_nats_per_chunk`: log of the mean
    weight. `cut_share`: thoughts that did not end by themselves.
    """

    ess_mean: Value | None = None
    selection_ess_mean: Value | None = None
    different_mean: Value | None = None
    effective_different_mean: Value | None = None
    largest_weight_mean: Value | None = None
    train_bound_nats_per_chunk: Value | None = None
    cut_share: Value | None = None


@dataclass(frozen=True)
class SelectionStatistics(PerChunk[float]):
    """What the weights of one iteration look like, of K = `num_samples` thoughts per chunk on average, from
    `fewest_samples` to `most_samples`, of a corpus of `chunks` in `documents`. Means are over chunks, each
    with its own K.

    Selection takes the rule `method` by weights of the kind `weights`, to the power `alpha`.
    `intervals`: over documents. `ess_by_length`: (mean thought tokens, mean ESS, chunks) of each
    bin. `pareto_k_pooled`: of all weights after each chunk's mean log-weight is taken off. `selected_cut`:
    selected thoughts that did not end by themselves; `fallback_chunks`: those all of whose thoughts did not.
    `length_correlation`: of thought length and log-weight over all thoughts, `_within` after each chunk's
    means are taken off.
    """

    num_samples: int | None = None
    fewest_samples: int | None = None
    most_samples: int | None = None
    method: str | None = None
    weights: str | None = None
    alpha: float | None = None
    intervals: PerChunk[Interval] = field(default_factory=PerChunk)
    chunks: int | None = None
    documents: int | None = None
    ess_histogram: Histogram | None = None
    ess_by_length: list[tuple[float, float, int]] = field(default_factory=list)
    pareto_k_pooled: float | None = None
    selected_cut: int | None = None
    fallback_chunks: int | None = None
    length_correlation: float | None = None
    length_correlation_within: float | None = None
    examples: list[WeighedThoughts] = field(default_factory=list)
    precision: Precision | None = None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> SelectionStatistics:
        """From the manifest of selected/ of this release or an older one."""
        examples = [WeighedThoughts.of(one) for one in raw.get("examples", [])]
        parts = {
            "intervals": PerChunk[Interval](**_known(PerChunk, raw.get("intervals"))),
            "ess_histogram": _whole(Histogram, raw.get("ess_histogram")),
            "precision": Precision.of(raw.get("precision")),
            "examples": [one for one in examples if one],
        }
        return cls(**{**_known(cls, raw), **parts})
