"""Where the report goes: report.json, report.html, and a table on the terminal."""

from __future__ import annotations

import sys
from typing import Any

from lt_hpc.report.collect import collect
from lt_hpc.report.warnings import warnings
from lt_hpc.run.plan import Plan
from lt_hpc.store.atomic import write_json, write_text
from lt_hpc.store.paths import RunPaths


def write(plan: Plan, paths: RunPaths) -> None:
    """Write report.json and report.html of what is done so far."""
    from lt_hpc.report.page import render

    value = collect(plan, paths)
    write_json(paths.report_json, value)
    write_text(paths.report_html, render(value, _decoder(paths)))


def _decoder(paths: RunPaths) -> Any:
    """Token ids -> text for the examples, by the run's own tokenizer file."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(paths.base / "tokenizer.json"))
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def print_table(plan: Plan, paths: RunPaths) -> None:
    """The iterations as a table on the terminal, and where the report is."""
    from rich.console import Console
    from rich.table import Table

    value = collect(plan, paths)
    table = Table(title=value["name"])
    for column in ("iteration", "accuracy", "bound", "NLL", "ESS", "unfinished", "task-seconds"):
        table.add_column(column, justify="right")
    for row in value["iterations"]:
        table.add_row(
            str(row["iteration"]), _number(row["accuracy"]), _number(row["bound"]), _number(row["nll"]),
            _number(row["ess_mean"]), _number(row["selection"].get("unfinished_share")),
            f"{row['seconds']:.0f}",
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(table)
    console.print(
        "held out: accuracy, bound and NLL, these two in nats a token; of the E-step before it: ESS of the K "
        "thoughts, share of unfinished ones"
    )
    for line in warnings(value["iterations"]):
        console.print(f"warning: {line}", markup=False)
    console.print(f"report: {paths.report_html}", soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
