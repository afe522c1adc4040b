"""python -m lt_hpc.report RUN_DIR

Collects what the manifests and metrics of a run say into report.json and report.html.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lt_hpc import config as configuration
from lt_hpc.cluster import plan as planning
from lt_hpc.cluster import state
from lt_hpc.cluster.plan import Plan, Stage
from lt_hpc.errors import ConfigError, LtError
from lt_hpc.store import manifest, shards
from lt_hpc.store.atomic import write_json, write_text
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import METRICS, RunPaths


def collect(plan: Plan, paths: RunPaths) -> dict[str, Any]:
    """The report as one JSON-able tree: settings, corpora and a row an iteration.

    Figures in nats a token unless named otherwise; seconds are of stages, summed over tasks.
    Iterations whose evaluation is not done are left out.
    """
    iterations = []
    for stage in plan.stages:
        if stage.name == "evaluate" and state.problem(paths, stage) is None:
            iterations.append(_iteration(plan, paths, stage))
    return {
        "format": 1,
        "name": plan.config.name,
        "plan": plan.fingerprint,
        "config": planning.to_json(plan)["config"],
        "corpora": {name: _counts(paths.documents(name)) for name in planning.CORPORA},
        "complete": not state.pending(paths, plan),
        "iterations": iterations,
    }


def _counts(folder: Path) -> dict[str, int]:
    record = manifest.read(folder)
    return dict(record.counts) if record else {}


def _iteration(plan: Plan, paths: RunPaths, evaluate: Stage) -> dict[str, Any]:
    iteration = evaluate.iteration
    metrics = json.loads((paths.evaluation(iteration) / METRICS).read_text())
    records = {
        "train": manifest.read(paths.model(iteration)),
        "evaluate": manifest.read(paths.evaluation(iteration)),
        "merge": manifest.read(paths.selected(iteration)),
    }
    sampled = _samples(paths, iteration)
    selection = records["merge"].statistics if records["merge"] else {}
    seconds = {name: record.seconds for name, record in records.items() if record}
    if sampled:
        seconds["sample"] = sum(record.seconds for record in sampled)
    model = records["train"]
    return {
        **{k: v for k, v in metrics.items() if k not in ("ess_mean", "iteration")},
        "iteration": iteration,
        "heldout_ess_mean": metrics["ess_mean"],
        "ess_mean": selection.get("ess_mean"),
        "selected_unfinished": selection.get("selected_unfinished", 0),
        "selection": selection,
        "tokens": {
            "sampled": sum(record.counts.get("sampled_tokens", 0) for record in sampled),
            "scored": sum(record.counts.get("scored_tokens", 0) for record in sampled),
            "trained": model.counts["trained_tokens"] if model else 0,
        },
        "losses": model.statistics.get("losses", []) if model else [],
        "seconds_by_stage": seconds,
        "seconds": sum(seconds.values()),
    }


def _samples(paths: RunPaths, iteration: int) -> list[Manifest]:
    shard_map = shards.read(paths, iteration)
    if shard_map is None:
        return []
    records = [manifest.read(paths.shard(iteration, shard)) for shard in range(shard_map.num_shards)]
    return [record for record in records if record is not None]


def write(plan: Plan, paths: RunPaths) -> None:
    """Write report.json and report.html of what is done so far."""
    from lt_hpc.report_html import render

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
    table = Table(title=f"{value['name']}: held-out measures by iteration")
    for column in ("iteration", "accuracy", "bound", "NLL", "ESS", "unfinished", "seconds"):
        table.add_column(column, justify="right")
    for row in value["iterations"]:
        table.add_row(
            str(row["iteration"]), _number(row["accuracy"]), _number(row["bound"]), _number(row["nll"]),
            _number(row["ess_mean"]), str(row["selected_unfinished"]), f"{row['seconds']:.0f}",
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(table)
    console.print("bound and NLL in nats a token; ESS of the selection's K thoughts")
    console.print(f"report: {paths.report_html}", soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def pinned_plan(paths: RunPaths) -> Plan:
    """The newest plan of a run folder.

    Raises:
        ConfigError: when the folder holds no run.
    """
    files = sorted((paths.root / "plans").glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise ConfigError(f"{paths.root}: no run here (plans/ is missing or empty)")
    raw = json.loads(files[-1].read_text())
    return planning.from_json(raw, configuration.from_dict(raw["config"]))


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lt_hpc.report", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    options = parser.parse_args(arguments)
    paths = RunPaths(options.run_dir)
    try:
        plan = pinned_plan(paths)
        write(plan, paths)
        print_table(plan, paths)
    except LtError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
