"""The report as one self-contained HTML page, page.html.jinja: no script, no link out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lt_hpc.latent import drift
from lt_hpc.report import arms, benchmarks, columns, comparison, plots, teacher
from lt_hpc.report.comparison import Run
from lt_hpc.report.rows import Report
from lt_hpc.report.warnings import warnings
from lt_hpc.store.figures import WeighedThoughts

Decode = Callable[[list[int]], str]
CONTEXT_TOKENS = 60
"""Of what stands before a passage, the last ones."""


@dataclass(frozen=True)
class _Thought:
    """A line of the table of thoughts; `figures` as in its titles: chunk, times, weight, nats."""

    figures: list[float | None]
    text: str
    selected: bool


@dataclass(frozen=True)
class _Passage:
    """A text and what was thought of it: by iteration, or by iteration and run."""

    title: str
    before: str
    text: str
    thoughts: list[tuple[str, str]]


def render(shown: Sequence[tuple[str, Report, Decode]], runs: Sequence[Run] = ()) -> str:
    """The whole page on some runs, each with its label, report and decoder (token ids -> text); `runs`: the
    same, to compare them where there are several."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    environment.filters["flops"] = _flops
    environment.globals |= {
        "plots": plots,
        "columns": columns,
        "benchmarks": benchmarks,
        "arms": arms,
        "comparison": comparison,
        "limits": drift,
    }
    return environment.get_template("page.html.jinja").render(
        shown=[_of_run(label, report, decode) for label, report, decode in shown],
        runs=runs if len(runs) > 1 else (),
        beside=_beside([(label, report) for label, report, _ in shown]),
    )


def _of_run(label: str, report: Report, decode: Decode) -> dict[str, Any]:
    """What run.html.jinja reads."""
    selections = report.selections
    examples = selections[max(selections)].examples if selections else []
    found = warnings(report.iterations, report.corpora, report.drift)
    earlier = tuple(f"iteration {row.number}:" for row in report.iterations[:-1])
    return {
        "label": label,
        "report": report,
        "config": report.config,
        "taught": teacher.in_words(report.teacher, report.config.get("teacher", {})),
        "warnings": found,
        "newest": [line for line in found if not line.startswith(earlier)],
        "standing": comparison.standing(report),
        "thoughts": [line for example in examples for line in _thoughts(example, decode)],
        "passages": [*_passages(report, decode), *_beside([("", report)])],
    }


def _figure(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _flops(value: float | None) -> str | None:
    return None if value is None else f"{value:.2e}"


def _passages(report: Report, decode: Decode) -> Iterator[_Passage]:
    """Of the corpus, by iteration."""
    for one in report.passages:
        cut = len(one.prefix) > CONTEXT_TOKENS
        before = ("… " if cut else "") + decode(one.prefix[-CONTEXT_TOKENS:])
        thoughts = [
            (f"iteration {number}", "every thought was cut" if ids is None else decode(ids))
            for number, ids in one.thoughts.items()
        ]
        yield _Passage(f"chunk {one.chunk} of the corpus", before, decode(one.suffix), thoughts)


def _beside(shown: Sequence[tuple[str, Report]]) -> list[_Passage]:
    """Of held-out questions, by run and iteration; of several runs the last model's alone."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for label, report in shown:
        for row in report.iterations if len(shown) == 1 else report.iterations[-1:]:
            title = f"{label}, iteration {row.number}" if label else f"iteration {row.number}"
            for one in row.held_out.examples:
                said = " → ".join(part for part in (one.thought, one.answer) if part)
                found.setdefault((one.prefix or "", one.suffix or ""), []).append((title, said or "–"))
    return [_Passage("held out", *texts, thoughts) for texts, thoughts in found.items()]


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
