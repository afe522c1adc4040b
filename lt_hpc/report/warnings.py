"""What a reader of a report should act on, in words. A figure that an older release did not write warns
of nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lt_hpc.latent.diagnostics import WARN_SELECTION_CHANGE
from lt_hpc.report import columns
from lt_hpc.report.changes import FEW_DOCUMENTS, Change
from lt_hpc.report.rows import Iteration
from lt_hpc.report.thoughts import Drift, moved
from lt_hpc.store.counts import remarks
from lt_hpc.store.figures import HeldOut, Precision, SelectionStatistics

COLLAPSED_ESS = 1.2
COLLAPSED_LARGEST = 0.9
"""A mean ESS below the one, or a mean share of weight on the largest sample above the other:
selection is little more than taking the largest weight."""
FEW_DIFFERENT = 1.5
"""Effective number of different thoughts; an ESS of twice as many counts samples, not thoughts."""
CUT_SHARE = 0.05
PARETO_K = 0.7
LENGTH_CORRELATION = 0.5
SMALLEST_ALPHA = 0.05


def warnings(
    rows: Sequence[Iteration],
    corpora: Mapping[str, Mapping[str, int]] | None = None,
    drift: Sequence[Drift] = (),
) -> list[str]:
    """One line per finding, over all iterations of a report, the counts of its corpora and the figures of its
    thoughts."""
    of_corpora = [
        f"{name}: {line}" for name, found in (corpora or {}).items() for line in remarks(name, found)
    ]
    return [*of_corpora, *_moved(drift)] + [
        f"iteration {row.number}: {line}"
        for row in rows
        for line in (
            *_training(row),
            *_held_out(row.held_out),
            *_changed(row.change),
            *_of_selection(row.selection),
        )
    ]


_MOVED = {
    "tokens": "thoughts have other lengths, in tokens",
    "copied": "another share of x stands in its thought; one that repeats x explains nothing",
    "repeated": "another share of a thought repeats what stands in it already",
}


def _moved(drift: Sequence[Drift]) -> Iterator[str]:
    titles = {name: title for title, name in columns.DRIFT.items()}
    for name, first, last in moved(drift):
        was, now = (columns.drifted(row, name) for row in (first, last))
        meaning = _MOVED.get(name, "another number of samples counts")
        yield (
            f"iteration {last.number}: {titles[name]} is {now}, in iteration {first.number} {was}: {meaning}."
        )


def _training(row: Iteration) -> Iterator[str]:
    if row.skipped_steps:
        yield f"{row.skipped_steps} training steps were left out: their gradient was not finite."


def _held_out(held_out: HeldOut) -> Iterator[str]:
    documents = held_out.documents
    if documents is not None and documents < FEW_DOCUMENTS:
        yield (
            f"the held-out figures are of {documents} documents: over so few, intervals are wide and hold "
            "less often than they say."
        )
    if held_out.answers_too_long:
        yield (
            f"{held_out.answers_too_long} of {held_out.chunks} answers are longer than "
            "evaluate.max_answer_tokens and count as wrong whatever the model says."
        )
    yield from _precision(held_out.precision, "evaluate.dtype")


def _changed(change: Change | None) -> Iterator[str]:
    if change is None or not change.bound_misleads:
        return
    rise = columns.changed(change, "bound")
    yield (
        f"the bound has risen by {rise} nats per token, but the model "
        + ("got worse: " if change.verdict == "worse" else "cannot be told to be better: ")
        + (
            f"log p(x | c) has moved by {columns.changed(change, 'log_likelihood')}. A bound also rises when "
            "thoughts fit their chunks better."
            if change.values.log_likelihood is not None
            else "there is no estimate of log p(x | c) (evaluate.estimate_chunks)."
        )
    )


def _of_selection(selection: SelectionStatistics | None) -> Iterator[str]:
    if selection:
        yield from _collapse(selection)
        yield from _diversity(selection)
        yield from _cut(selection)
        yield from _trust(selection)
        yield from _precision(selection.precision, "sample.dtype")


def _collapse(selection: SelectionStatistics) -> Iterator[str]:
    ess, largest, num_samples = selection.ess_mean, selection.largest_weight_mean, selection.num_samples
    if not ess or largest is None or num_samples is None or num_samples == 1:
        return
    if ess < COLLAPSED_ESS or largest > COLLAPSED_LARGEST:
        yield (
            f"selection has collapsed to taking the largest weight (mean ESS {ess:.2f} of {num_samples}, "
            f"{largest:.0%} of the weight on one thought): the weights say little. More samples, a better "
            "warm start or merge.weights=tempered would help."
        )


def _diversity(selection: SelectionStatistics) -> Iterator[str]:
    ess, effective = selection.ess_mean, selection.effective_different_mean
    if ess is not None and effective is not None and effective < FEW_DIFFERENT and ess > 2 * effective:
        yield (
            f"an ESS of {ess:.1f} of {selection.num_samples} is {effective:.2f} different thoughts (their "
            "effective number): most samples of a chunk are one thought; rules of selection hardly differ."
        )


def _cut(selection: SelectionStatistics) -> Iterator[str]:
    share = selection.cut_share
    if share is not None and share > CUT_SHARE:
        yield (
            f"{share:.0%} of the thoughts did not end within sample.max_thought_tokens and were cut there"
            + (f"; {selection.selected_cut} of them are selected." if selection.selected_cut else ".")
        )
    if selection.fallback_chunks:
        yield f"of {selection.fallback_chunks} chunks every thought was cut (merge.unfinished)."


def _trust(selection: SelectionStatistics) -> Iterator[str]:
    pareto = selection.pareto_k_pooled
    if pareto is not None and pareto > PARETO_K:
        yield (
            f"the weights have a Pareto k of {pareto:.2f}, pooled over chunks, above {PARETO_K}: their tail "
            "is too heavy for their means to be trusted. More samples or sample.prior_share would help."
        )
    alpha = selection.alpha
    if selection.weights == "tempered" and alpha is not None and alpha < SMALLEST_ALPHA:
        yield (
            f"to reach merge.target_ess the weights had to be raised to the power {alpha:.2f}: "
            "selection hardly looks at them."
        )
    correlation = selection.length_correlation_within
    if correlation is not None and abs(correlation) > LENGTH_CORRELATION:
        yield (
            f"within a chunk the weights prefer {'long' if correlation > 0 else 'short'} thoughts "
            f"(correlation {correlation:.2f})."
        )


def _precision(precision: Precision | None, field: str) -> Iterator[str]:
    if precision and precision.selection_change > WARN_SELECTION_CHANGE:
        yield (
            f"{field} moves {precision.selection_change:.0%} of the weight between the thoughts of a "
            f"chunk, against float32 (log-weights off by {precision.log_weight_deviation:.2f} nats; "
            f"{precision.outside_support} thoughts that float32 would not have sampled)."
        )
