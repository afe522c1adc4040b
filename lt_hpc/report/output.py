"""Where the report goes: report.json, report.html, and a table on the terminal."""

from __future__ import annotations

import io
import sys
from typing import Any

from lt_hpc.report.collect import collect
from lt_hpc.report.rows import Report
from lt_hpc.report.warnings import warnings
from lt_hpc.run.plan import Plan
from lt_hpc.store import manifest
from lt_hpc.store.atomic import write_json, write_text
from lt_hpc.store.figures import SelectionStatistics
from lt_hpc.store.paths import RunPaths


def write(plan: Plan, paths: RunPaths) -> Report:
    """Write report.json and report.html of what is done so far; returns what they say."""
    from lt_hpc.report.page import render

    report = collect(plan, paths)
    write_json(paths.report_json, report.to_json())
    write_text(paths.report_html, render(report, _decoder(paths)))
    return report


def _decoder(paths: RunPaths) -> Any:
    """Token ids -> text for the examples, by the run's own tokenizer file; the ids where that is damaged."""
    from tokenizers import Tokenizer

    record = manifest.read(paths.base)
    if record is None or manifest.problem(paths.base, record.fingerprint) is not None:
        return lambda ids: " ".join(map(str, ids))
    tokenizer = Tokenizer.from_file(str(paths.base / "tokenizer.json"))
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def print_table(report: Report, paths: RunPaths) -> None:
    """The iterations as a table on the terminal, and where the report is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(report.name))
    for column in ("iteration", "accuracy", "bound", "NLL", "ESS", "unfinished", "task-seconds"):
        table.add_column(column, justify="right")
    for row in report.iterations:
        held_out, selection = row.held_out, row.selection or SelectionStatistics()
        table.add_row(
            str(row.number), _number(held_out.accuracy), _number(held_out.bound), _number(held_out.nll),
            _number(selection.ess_mean), _number(selection.unfinished_share),
            f"{row.seconds:.0f}",
        )  # fmt: skip
    # By way of a string: rich itself would end the process when nobody reads the output any more.
    text, terminal = io.StringIO(), sys.stdout.isatty()
    console = Console(file=text, force_terminal=terminal, width=None if terminal else 100)
    console.print(table)
    console.print(
        "held out: accuracy, bound and NLL, these two in nats per token; of the E-step before it: ESS of the "
        "K thoughts, share of unfinished ones"
    )
    for line in warnings(report.iterations, report.corpora):
        console.print(f"warning: {line}", markup=False)
    console.print(f"report: {paths.report_html}", soft_wrap=True, markup=False, highlight=False)
    print(text.getvalue(), end="", flush=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
