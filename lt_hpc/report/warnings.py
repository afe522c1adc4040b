"""What a reader of a report should act on, in words. A figure that an older release did not write warns
of nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lt_hpc.latent.diagnostics import WARN_SELECTION_CHANGE
from lt_hpc.report.rows import Iteration
from lt_hpc.store.counts import remarks
from lt_hpc.store.figures import HeldOut, SelectionStatistics

COLLAPSED_ESS = 1.2
COLLAPSED_LARGEST = 0.9
"""A mean ESS below the one, or a mean share of weight on the largest sample above the other:
selection is little more than taking the largest weight."""
UNFINISHED_SHARE = 0.05
UNDEFINED_SHARE = 0.01
PARETO_SHARE = 0.2
LENGTH_CORRELATION = 0.5
SMALLEST_ALPHA = 0.05


def warnings(rows: Sequence[Iteration], corpora: Mapping[str, Mapping[str, int]] | None = None) -> list[str]:
    """One line per finding, over all iterations of a report and the counts of its corpora."""
    return [f"{name}: {line}" for name, found in (corpora or {}).items() for line in remarks(found)] + [
        f"iteration {row.number}: {line}"
        for row in rows
        for line in (*_training(row), *_held_out(row.held_out), *_of_selection(row.selection))
    ]


def _training(row: Iteration) -> Iterator[str]:
    if row.skipped_steps:
        yield f"{row.skipped_steps} training steps were left out: their gradient was not finite."


def _held_out(held_out: HeldOut) -> Iterator[str]:
    left_out, chunks = held_out.bound_undefined_chunks, held_out.chunks
    if left_out is not None and chunks is not None and left_out > UNDEFINED_SHARE * chunks:
        yield (
            f"the held-out bound leaves out {left_out} of {chunks} chunks, none of whose thoughts "
            "finished: it is of the easier ones."
        )
    if held_out.answers_too_long:
        yield (
            f"{held_out.answers_too_long} of {chunks} answers are longer than evaluate.max_answer_tokens "
            "and count as wrong whatever the model says."
        )


def _of_selection(selection: SelectionStatistics | None) -> Iterator[str]:
    if selection:
        yield from _collapse(selection)
        yield from _unfinished(selection)
        yield from _trust(selection)


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


def _unfinished(selection: SelectionStatistics) -> Iterator[str]:
    share = selection.unfinished_share
    if share is not None and share > UNFINISHED_SHARE:
        yield (
            f"{share:.0%} of the thoughts did not finish within sample.max_thought_tokens and have weight "
            "zero."
        )
    if selection.fallback_chunks:
        yield f"{selection.fallback_chunks} chunks had no finished thought at all (merge.unfinished)."
    if selection.selected_unfinished:
        yield f"{selection.selected_unfinished} unfinished thoughts were selected: report this."


def _trust(selection: SelectionStatistics) -> Iterator[str]:
    pareto = selection.pareto_k
    if pareto and pareto.heavy_share > PARETO_SHARE:
        yield (
            f"{pareto.heavy_share:.0%} of the {pareto.chunks} chunks with a Pareto k have it above "
            "0.7: their weights have too heavy a tail to be trusted at this K."
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
    precision = selection.precision
    if precision and precision.selection_change > WARN_SELECTION_CHANGE:
        yield (
            f"sample.dtype moves {precision.selection_change:.0%} of the weight between the thoughts of a "
            f"chunk, against float32 (log-weights off by {precision.log_weight_deviation:.2f} nats; "
            f"{precision.outside_support} thoughts that float32 would not have sampled)."
        )
