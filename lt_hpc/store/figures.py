"""What stages measure, as records that they write and the report reads. Pure data.

Files outlive releases: a figure that an older one did not write is None, one that is no longer
known is ignored, and one that was renamed is found under its present name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Generic, TypeVar

FORMER_NAMES = {
    "nll_a_byte": "nll_per_byte",
    "nll_marked_a_byte": "nll_marked_per_byte",
    "bound_a_byte": "bound_per_byte",
    "train_bound_nats_a_chunk": "train_bound_nats_per_chunk",
    "log_q_deviation_a_token": "log_q_deviation_per_token",
}
"""Names in files of release 0.1.0 -> present ones."""
_SPELLED = {"heavy_share": "share_above_0.7"}
"""Fields whose name in files can't be one in Python."""
_FIELDS = FORMER_NAMES | {name: own for own, name in _SPELLED.items()}

Value = TypeVar("Value")
Record = TypeVar("Record")
Interval = list[float]
"""[low, high] of a 95% interval."""


def to_json(record: Any) -> dict[str, Any]:
    """A record and those in it as JSON objects."""
    return asdict(record, dict_factory=lambda items: {_SPELLED.get(name, name): x for name, x in items})


def _known(record: type[Any], raw: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a JSON object holds of the fields of a record."""
    present = {_FIELDS.get(name, name): value for name, value in (raw or {}).items()}
    return {one.name: present[one.name] for one in fields(record) if one.name in present}


def _whole(record: type[Record], raw: Mapping[str, Any] | None) -> Record | None:
    """A record that says something only with all its figures; None where one is missing."""
    kind: type[Any] = record
    known = _known(kind, raw)
    return record(**known) if len(known) == len(fields(kind)) else None


@dataclass(frozen=True)
class PerMeasure(Generic[Value]):
    """A value for each held-out measure of a model. Accuracy: share of right answers. NLL and bound:
    nats per token unless named otherwise. None where the corpus or the thoughts do not allow one.
    `bound_by_k[k]`: the bound by k + 1 samples."""

    accuracy: Value | None = None
    accuracy_sampled: Value | None = None
    accuracy_direct: Value | None = None
    nll: Value | None = None
    nll_per_byte: Value | None = None
    nll_marked: Value | None = None
    nll_marked_per_byte: Value | None = None
    bound: Value | None = None
    bound_per_byte: Value | None = None
    bound_by_k: list[Value | None] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """A held-out question as text, what the model thought and said, and what was expected (suffix)."""

    prefix: str | None = None
    suffix: str | None = None
    thought: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class HeldOut(PerMeasure[float]):
    """metrics.json of one model. `*_undefined_chunks` are left out of the bound, because no thought of
    theirs finished, and of the bound by K, because not all did. `ess_mean`: of `num_samples`
    thoughts of the model's own proposal; `tokens` and `bytes` of all chunks. `answers_too_long`: chunks whose
    answer has more tokens than may be generated, so that they always count as wrong."""

    bound_undefined_chunks: int | None = None
    bound_by_k_undefined_chunks: int | None = None
    intervals: PerMeasure[Interval] = field(default_factory=PerMeasure)
    ess_mean: float | None = None
    num_samples: int | None = None
    chunks: int | None = None
    tokens: int | None = None
    bytes: int | None = None
    answers_too_long: int | None = None
    examples: list[Answer] = field(default_factory=list)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> HeldOut:
        """From metrics.json of this release or an older one."""
        intervals = PerMeasure[Interval](**_known(PerMeasure, raw.get("intervals")))
        examples = [Answer(**_known(Answer, one)) for one in raw.get("examples", [])]
        return cls(**{**_known(cls, raw), "intervals": intervals, "examples": examples})


@dataclass(frozen=True)
class Pareto:
    """Of the chunks whose Pareto k can be estimated: how many, the median k, the share of k above 0.7."""

    chunks: int
    median: float
    heavy_share: float


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
class Histogram:
    """`counts` [B] between `edges` [B + 1]; all bins have one width."""

    counts: list[int]
    edges: list[float]


@dataclass(frozen=True)
class WeighedThoughts:
    """The K thoughts of one chunk: token ids, normalised weights, and the parts of the log-weights in nats
    (None where a thought did not finish). `selected`: indices among the K."""

    chunk: int
    thoughts: list[list[int]]
    weights: list[float]
    log_prior: list[float | None]
    log_likelihood: list[float | None]
    log_q: list[float | None]
    selected: list[int]


@dataclass(frozen=True)
class SelectionStatistics:
    """What the weights of one iteration look like, of K = `num_samples` thoughts per chunk.

    Figures are of the exact weights, whatever weights (`weights`, to the power `alpha`) selection
    goes by, but for `selection_ess_mean`. `ess_by_length`: (mean thought tokens, mean ESS, chunks) of each
    bin. `train_bound_nats_per_chunk`: mean log of the mean weight. `fallback_chunks`: those without
    a finished thought. `length_correlation`: of thought length and log-weight over all thoughts,
    `_within` after each chunk's means are taken off.
    """

    num_samples: int | None = None
    weights: str | None = None
    alpha: float | None = None
    ess_mean: float | None = None
    selection_ess_mean: float | None = None
    ess_histogram: Histogram | None = None
    ess_by_length: list[tuple[float, float, int]] = field(default_factory=list)
    largest_weight_mean: float | None = None
    pareto_k: Pareto | None = None
    train_bound_nats_per_chunk: float | None = None
    unfinished_share: float | None = None
    selected_unfinished: int | None = None
    fallback_chunks: int | None = None
    length_correlation: float | None = None
    length_correlation_within: float | None = None
    examples: list[WeighedThoughts] = field(default_factory=list)
    precision: Precision | None = None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> SelectionStatistics:
        """From the manifest of selected/ of this release or an older one."""
        examples = [_whole(WeighedThoughts, one) for one in raw.get("examples", [])]
        parts = {
            "ess_histogram": _whole(Histogram, raw.get("ess_histogram")),
            "pareto_k": _whole(Pareto, raw.get("pareto_k")),
            "precision": Precision.of(raw.get("precision")),
            "examples": [one for one in examples if one],
        }
        return cls(**{**_known(cls, raw), **parts})
