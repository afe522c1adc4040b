"""The report as one self-contained HTML page, page.html.jinja: no script, no link out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lt_hpc.report import benchmarks, columns, plots, teacher
from lt_hpc.report.rows import Report
from lt_hpc.report.warnings import warnings
from lt_hpc.store.figures import WeighedThoughts

Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class _Thought:
    """A line of the table of thoughts; `figures` as in its titles: chunk, times, weight, nats."""

    figures: list[float | None]
    text: str
    selected: bool


def render(report: Report, decode: Decode) -> str:
    """The whole page. `decode`: token ids -> text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    environment.filters["flops"] = _flops
    selections = report.selections
    examples = selections[max(selections)].examples if selections else []
    return environment.get_template("page.html.jinja").render(
        report=report,
        config=report.config,
        taught=teacher.in_words(report.teacher, report.config.get("teacher", {})),
        warnings=warnings(report.iterations, report.corpora),
        plots=plots,
        columns=columns,
        benchmarks=benchmarks,
        thoughts=[line for example in examples for line in _thoughts(example, decode)],
    )


def _figure(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _flops(value: float | None) -> str | None:
    return None if value is None else f"{value:.2e}"


def _thoughts(example: WeighedThoughts, decode: Decode) -> Iterator[_Thought]:
    """The distinct thoughts of a chunk: of many, the two of most and of least weight, and those selected."""
    kinds = _kinds(example)
    ends = kinds if len(kinds) <= 4 else [*kinds[:2], *kinds[-2:]]
    for kind in kinds:
        selected = any(k in example.selected for k in kind)
        if kind in ends or selected:
            parts = [one[kind[0]] for one in (example.log_prior, example.log_likelihood, example.log_q)]
            weight = sum(example.weights[k] for k in kind)
            figures = [example.chunk, len(kind), weight, *parts]
            yield _Thought(figures, decode(example.thoughts[kind[0]]), selected)


def _kinds(example: WeighedThoughts) -> list[list[int]]:
    """Samples of a chunk with the same ids belong together; the largest weight of one comes first."""
    kinds: dict[tuple[int, ...], list[int]] = {}
    for k, ids in enumerate(example.thoughts):
        kinds.setdefault(tuple(ids), []).append(k)
    return sorted(kinds.values(), key=lambda kind: -example.weights[kind[0]])
