"""What a reader of a report should act on, in words."""

from __future__ import annotations

from collections.abc import Iterator

from lt_hpc.latent.diagnostics import WARN_SELECTION_CHANGE
from lt_hpc.report.rows import Iteration
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


def warnings(rows: list[Iteration]) -> list[str]:
    """One line per finding, over all iterations of a report."""
    return [
        f"iteration {row.iteration}: {line}"
        for row in rows
        for line in (
            *_training(row),
            *_bound(row.heldout),
            *(_selection(row.selection) if row.selection else ()),
            *(_trust(row.selection) if row.selection else ()),
        )
    ]


def _training(row: Iteration) -> Iterator[str]:
    if row.skipped_steps:
        yield f"{row.skipped_steps} training steps were left out: their gradient was not finite."


def _bound(heldout: HeldOut) -> Iterator[str]:
    left_out, chunks = heldout.bound_undefined_chunks or 0, heldout.chunks or 0
    if left_out > UNDEFINED_SHARE * chunks:
        yield (
            f"the held-out bound leaves out {left_out} of {chunks} chunks, none of whose thoughts "
            "finished: it is of the easier ones."
        )


def _selection(found: SelectionStatistics) -> Iterator[str]:
    """What was selected, and what could not be."""
    ess, largest = found.ess_mean, found.largest_weight_mean or 0.0
    if (found.num_samples or 0) > 1 and ess and (ess < COLLAPSED_ESS or largest > COLLAPSED_LARGEST):
        yield (
            f"selection has collapsed to taking the largest weight (mean ESS {ess:.2f} of "
            f"{found.num_samples}, {largest:.0%} of the weight on one thought): the weights say little. More "
            "samples, a better warm start or merge.weights=tempered would help."
        )
    if (found.unfinished_share or 0.0) > UNFINISHED_SHARE:
        yield (
            f"{found.unfinished_share:.0%} of the thoughts did not finish within "
            "sample.max_thought_tokens and have weight zero."
        )
    if found.fallback_chunks:
        yield f"{found.fallback_chunks} chunks had no finished thought at all (merge.unfinished)."
    if found.selected_unfinished:
        yield f"{found.selected_unfinished} unfinished thoughts were selected: report this."


def _trust(found: SelectionStatistics) -> Iterator[str]:
    """Whether the weights themselves can be trusted."""
    pareto, precision = found.pareto_k, found.precision
    if pareto and pareto.heavy_share > PARETO_SHARE:
        yield (
            f"{pareto.heavy_share:.0%} of the {pareto.chunks} chunks with a Pareto k have it above "
            "0.7: their weights have too heavy a tail to be trusted at this K."
        )
    if found.weights == "tempered" and found.alpha is not None and found.alpha < SMALLEST_ALPHA:
        yield (
            f"to reach merge.target_ess the weights had to be raised to the power {found.alpha:.2f}: "
            "selection hardly looks at them."
        )
    correlation = found.length_correlation_within
    if correlation is not None and abs(correlation) > LENGTH_CORRELATION:
        yield (
            f"within a chunk the weights prefer {'long' if correlation > 0 else 'short'} thoughts "
            f"(correlation {correlation:.2f})."
        )
    if precision and precision.selection_change > WARN_SELECTION_CHANGE:
        yield (
            f"sample.dtype moves {precision.selection_change:.0%} of the weight between the thoughts of a "
            f"chunk, against float32 (log-weights off by {precision.log_weight_deviation:.2f} nats; "
            f"{precision.outside_support} thoughts that float32 would not have sampled)."
        )
