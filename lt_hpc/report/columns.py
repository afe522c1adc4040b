"""The figures of a report as tables show them: their titles, in an order, with their intervals. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lt_hpc.report.changes import Change
from lt_hpc.report.rows import Iteration
from lt_hpc.report.thoughts import Drift
from lt_hpc.report.work import Work
from lt_hpc.run.events import Excluded
from lt_hpc.store.figures import HeldOut, Interval, SelectionStatistics


@dataclass(frozen=True)
class Shown:
    """A value with its 95% interval; None where there is none."""

    value: float | None
    interval: Interval | None

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        if self.interval is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.interval[0]:.3f}, {self.interval[1]:.3f}]"


LIKELIHOODS = {
    "log p(x | c)": "log_likelihood",
    "bound": "bound",
    "raw text": "nll",
    "no thought": "nll_marked",
    "bound, per byte": "bound_per_byte",
    "raw text, per byte": "nll_per_byte",
    "bound: gain": "bound_gain",
    "bound: too low by": "bound_gap",
}
"""Titles -> measures, in nats per token; NLL is shown as what it is the negative of."""
ANSWERS = {
    "accuracy": "accuracy",
    "no thought": "accuracy_direct",
    "sampled": "accuracy_sampled",
    "majority": "accuracy_majority",
    "any": "accuracy_pass",
    "p(x | c, z), prior z": "likelihood_prior",
}
CHANGES = {
    "log p(x | c)": "log_likelihood",
    "bound": "bound",
    "raw text": "nll",
    "accuracy": "accuracy",
    "sampled": "accuracy_sampled",
}
WEIGHTS = {
    "ESS": "ess_mean",
    "different": "different_mean",
    "effective": "effective_different_mean",
    "largest weight": "largest_weight_mean",
    "cut": "cut_share",
    "bound, nats per chunk": "train_bound_nats_per_chunk",
    "ESS selected by": "selection_ess_mean",
}


DRIFT = {
    "thought tokens": "tokens",
    "x copied": "copied",
    "repeated": "repeated",
    "ESS": "ess",
    "ESS, short x": "ess_short",
    "ESS, middling x": "ess_middling",
    "ESS, long x": "ess_long",
}


def of_drift(rows: Sequence[Drift]) -> dict[str, str]:
    """Those of DRIFT that any iteration has."""
    return {title: name for title, name in DRIFT.items() if any(row.figure(name) for row in rows)}


def drifted(row: Drift, name: str) -> Shown:
    """One figure of the selected thoughts of an iteration."""
    return Shown(*(row.figure(name) or (None, None)))


def shown(held_out: HeldOut, name: str) -> Shown:
    """One held-out measure, as a log-probability where it is an NLL."""
    return _signed(name, getattr(held_out, name), getattr(held_out.intervals, name))


def changed(change: Change, name: str) -> Shown:
    """How far it has moved."""
    return _signed(name, getattr(change.values, name), getattr(change.intervals, name))


def weighed(row: Iteration, name: str) -> Shown:
    """One figure of the E-step behind a model."""
    selection = row.selection
    if selection is None:
        return Shown(None, None)
    return Shown(getattr(selection, name), getattr(selection.intervals, name))


def samples(selection: SelectionStatistics) -> str | None:
    """K of an E-step, with the fewest and the most thoughts of a chunk where these differ."""
    fewest, most = selection.fewest_samples, selection.most_samples
    if selection.num_samples is None or fewest == most:
        return None if selection.num_samples is None else str(selection.num_samples)
    return f"{selection.num_samples} ({fewest} to {most})"


def _signed(name: str, value: float | None, interval: Interval | None) -> Shown:
    if not name.startswith("nll") or value is None:
        return Shown(value, interval)
    return Shown(-value, None if interval is None else (-interval[1], -interval[0]))


WORK = [
    "stage",
    "attempts",
    "stopped",
    "failed",
    "hours",
    "lost, hours",
    "lost, seconds",
    "waiting, seconds",
    "unknown",
]


def work_lines(work: Sequence[Work]) -> Iterator[list[str | int]]:
    """Cells below WORK, and the sums."""
    for one in work:
        yield [
            one.stage, one.attempts, len(one.stops), one.failures, f"{one.hours:.3g} {one.unit} hours",
            f"{one.lost_hours:.3g}", f"{one.lost_seconds:.0f}", f"{one.idle_seconds:.0f}", one.unknown,
        ]  # fmt: skip


def excluded_lines(excluded: Sequence[Excluded]) -> Iterator[list[str]]:
    """A node, since when jobs leave it out, and why."""
    for one in excluded:
        yield [one.node, one.time, one.evidence]


def work_in_words(work: Sequence[Work]) -> str:
    """The sums, by unit."""
    sums = []
    for unit in dict.fromkeys(one.unit for one in work):
        of_unit = [one for one in work if one.unit == unit]
        hours, lost = sum(one.hours for one in of_unit), sum(one.lost_hours for one in of_unit)
        share = f" ({lost / hours:.1%})" if hours else ""
        sums.append(f"{hours:.3g} {unit} hours, of which {lost:.3g}{share} were lost to stops")
    stops, idle = sum(len(one.stops) for one in work), sum(one.idle_seconds for one in work)
    said = f"{'; '.join(sums)}. {sum(one.attempts for one in work)} attempts, {stops} of them stopped"
    said += f"; {idle:.0f} s nobody was at work after a stop." if stops else "."
    unknown = sum(one.unknown_losses for one in work)
    return said + (f" Of {unknown} stops nobody recorded what they cost." if unknown else "")


def in_words(change: Change) -> str:
    """Verdict and figures."""
    figures = {title: changed(change, name) for title, name in CHANGES.items()}
    said = f"{change.verdict}: " + ", ".join(
        f"{t} {one}" for t, one in figures.items() if one.value is not None
    )
    if change.one_is_marked:
        said += (
            "; without markers log p(x | c) also holds where c ends, which markers tell: in favour of the "
            "model with them it shows nothing, accuracy does"
        )
    return said
