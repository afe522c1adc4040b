"""The report as one self-contained HTML page: no script, no link out. What it looks like is in
page.html.jinja."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lt_hpc.report import plots
from lt_hpc.report.rows import Iteration, Report
from lt_hpc.report.warnings import warnings
from lt_hpc.store.figures import WeighedThoughts

Decode = Callable[[list[int]], str]
SHOWN_THOUGHTS = 4
"""Different thoughts of a chunk on the page: half of them of highest weight, half of lowest."""
_MEASURES = {
    "accuracy": "accuracy", "accuracy_sampled": "accuracy, sampled",
    "accuracy_direct": "accuracy, no thought", "bound": "bound", "bound_per_byte": "bound, nats per byte",
    "bound_undefined_chunks": "no bound", "nll": "NLL", "nll_per_byte": "NLL, nats per byte",
    "nll_marked": "NLL, marked",
}  # fmt: skip
_WEIGHTS = {
    "ess_mean": "mean ESS", "largest_weight_mean": "largest weight", "pareto_median": "median Pareto k",
    "pareto_chunks": "chunks with it", "unfinished_share": "unfinished", "fallback_chunks": "no thought",
    "cut_prefixes": "prefixes cut", "length_correlation_within": "length corr.",
    "train_bound_nats_per_chunk": "bound, nats per chunk", "alpha": "alpha",
    "selection_ess_mean": "ESS selected by",
}  # fmt: skip


def render(report: Report, decode: Decode) -> str:
    """The whole page; `decode` turns token ids into text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    rows = report.iterations
    chosen = [row for row in rows if row.selection]
    return environment.get_template("page.html.jinja").render(
        report=report,
        rows=report.iterations,
        chosen=chosen,
        warnings=warnings(report.iterations),
        plots=plots,
        measures=(
            ["iteration", *_MEASURES.values(), "task-seconds"],
            list(map(_measures, report.iterations)),
        ),
        weights=(["iteration", *_WEIGHTS.values()], list(map(_weights, chosen))),
        thoughts=list(_thoughts(chosen[-1], decode)) if chosen else [],
    )


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _measures(row: Iteration) -> list[Any]:
    return [row.iteration, *(getattr(row.heldout, name) for name in _MEASURES), row.seconds]


def _weights(row: Iteration) -> list[Any]:
    """What the weights of an iteration look like."""
    pareto = row.selection.pareto_k if row.selection else None
    own = {
        "pareto_median": pareto and pareto.median,
        "pareto_chunks": pareto and pareto.chunks,
        "cut_prefixes": row.cut_prefixes,
    }
    return [row.iteration, *(own[n] if n in own else getattr(row.selection, n) for n in _WEIGHTS)]


def _thoughts(row: Iteration, decode: Decode) -> Iterator[tuple[bool, list[Any], str]]:
    """(selected, figures, text) of the thoughts of highest and lowest weight of some chunks, and of all
    that were selected."""
    for example in row.selection.examples if row.selection else []:
        kinds = _kinds(example)
        ends = SHOWN_THOUGHTS // 2
        for place, kind in enumerate(kinds):
            picked = any(k in example.selected for k in kind)
            if picked or place < ends or place >= len(kinds) - ends:
                weight, first = sum(example.weights[k] for k in kind), kind[0]
                parts = [part[first] for part in (example.log_prior, example.log_likelihood, example.log_q)]
                yield picked, [example.chunk, len(kind), weight, *parts], decode(example.thoughts[first])


def _kinds(example: WeighedThoughts) -> list[list[int]]:
    """Samples of a chunk with the same ids belong together; the largest weight of one comes first."""
    kinds: dict[tuple[int, ...], list[int]] = {}
    for k, ids in enumerate(example.thoughts):
        kinds.setdefault(tuple(ids), []).append(k)
    return sorted(kinds.values(), key=lambda kind: -example.weights[kind[0]])
