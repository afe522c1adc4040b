"""Where the report goes: report.json, pages, and tables on the terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lt_hpc.report import benchmarks, columns, comparison, teacher
from lt_hpc.report.collect import collect
from lt_hpc.report.columns import Shown
from lt_hpc.report.comparison import Run
from lt_hpc.report.rows import Report
from lt_hpc.report.warnings import warnings
from lt_hpc.run.plan import Plan
from lt_hpc.store import manifest
from lt_hpc.store.atomic import write_json, write_text
from lt_hpc.store.paths import RunPaths

HELD_OUT = {"accuracy": "accuracy", "log p(x | c)": "log_likelihood", "bound": "bound", "raw text": "nll"}
MEANING = (
    "held out, higher is better: accuracy, then nats per token: log p(x | c) from many thoughts on some "
    "chunks, the bound by few thoughts on all, raw text; 95% intervals over documents, not over seeds"
)
E_STEP = ("ESS", "different", "effective", "cut")


def write(plan: Plan, paths: RunPaths) -> Report:
    """Write report.json and report.html of what is done so far; returns what they say."""
    from lt_hpc.report.page import render

    report = collect(plan, paths)
    write_json(paths.report_json, report.to_json())
    write_text(paths.report_html, render([(report.name, report, _decoder(paths))]))
    return report


def write_page(runs: Sequence[Run], page: Path) -> None:
    """One page on some runs."""
    from lt_hpc.report.page import render

    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, render([(run.label, run.report, _decoder(run.paths)) for run in runs], runs))


def _decoder(paths: RunPaths) -> Any:
    """Token ids -> text for the examples, by the run's own tokenizer file; the ids where that is damaged."""
    from tokenizers import Tokenizer

    record = manifest.read(paths.base)
    if record is None or manifest.problem(paths.base, record.fingerprint) is not None:
        return lambda ids: " ".join(map(str, ids))
    tokenizer = Tokenizer.from_file(str(paths.base / "tokenizer.json"))
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def print_place(page: Path) -> None:
    """Where a page is."""
    print(f"report: {page}", flush=True)


def _console(text: io.StringIO) -> Any:
    """By way of a string: rich itself would end the process when nobody reads the output any more."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(file=text, force_terminal=terminal, width=None if terminal else 110)


def print_comparison(runs: Sequence[Run]) -> None:
    """The last models of some runs as a table on the terminal, and each one's against that of the first."""
    from rich.markup import escape

    console = _console(text := io.StringIO())
    lines = []
    for run in runs:
        figures = [
            columns.shown(run.last.held_out, name) if run.last else Shown(None, None)
            for name in HELD_OUT.values()
        ]
        number = str(run.last.number) if run.last else "–"
        lines.append([escape(run.label), number, *map(_cell, figures)])
    console.print(_table("Last models", ["run", "iteration", *HELD_OUT], lines))
    console.print(MEANING, markup=False)
    for run in runs:
        if not run.report.complete:
            console.print(f"{run.label}: {comparison.standing(run.report)}", markup=False)
    for difference in comparison.differences(runs):
        # Not by way of rich, which would break the lines.
        text.write("".join(f"{line}\n" for line in difference.lines()))
    print(text.getvalue(), end="", flush=True)


def print_table(report: Report, page: Path) -> None:
    """The iterations as tables on the terminal, what their changes say, and where the report is."""
    from rich.markup import escape

    console = _console(text := io.StringIO())
    if report.iterations:
        _print_held_out(console, report)
    if report.benchmarks:
        cells = [
            [_cell(one) if isinstance(one, Shown) else escape(one or "–") for one in line]
            for line in benchmarks.lines(report.benchmarks)
        ]
        console.print(_table("Benchmarks", benchmarks.TITLES, cells))
        console.print(benchmarks.MEANING, *benchmarks.cuts(report.benchmarks), sep="\n", markup=False)
    taught = teacher.in_words(report.teacher, report.config.get("teacher", {}))
    if taught:
        console.print(taught, markup=False)
    for line in [
        *map("could not be read: {}".format, report.problems),
        *warnings(report.iterations, report.corpora, report.drift),
    ]:
        console.print(f"warning: {line}", markup=False)
    if not report.complete:
        console.print(comparison.standing(report), markup=False)
    print(text.getvalue(), end="", flush=True)
    print_place(page)


def _print_held_out(console: Any, report: Report) -> None:
    from rich.markup import escape

    held_out = [
        [
            str(row.number),
            *(_cell(columns.shown(row.held_out, name)) for name in HELD_OUT.values()),
            f"{row.seconds:.0f}",
        ]
        for row in report.iterations
    ]
    console.print(_table(escape(report.name), ["iteration", *HELD_OUT, "task-seconds"], held_out))
    console.print(MEANING, markup=False)
    e_step = [
        [str(row.number), *(_cell(columns.weighed(row, columns.WEIGHTS[name])) for name in E_STEP)]
        for row in report.iterations
        if row.selection
    ]
    if e_step:
        console.print(_table("E-step", ["iteration", *E_STEP], e_step))
        console.print(
            "per chunk: ESS of the K samples; different thoughts among them, and their effective number; "
            "share of thoughts cut at the limit",
            markup=False,
        )
    for row in report.iterations:
        if row.change is not None:
            said = columns.in_words(row.change)
            console.print(f"iteration {row.number} against the one before: {said}", markup=False)


def _table(title: str, names: Iterable[str], lines: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def _cell(figure: Shown) -> str:
    """The interval below its value."""
    from rich.markup import escape

    return escape(str(figure).replace(" [", "\n["))
