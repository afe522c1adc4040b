"""An iteration's figures as trackers show them: curves over iterations, each with its interval."""

from __future__ import annotations

import sys
from contextlib import closing

from lt_hpc.report import columns
from lt_hpc.report.columns import Shown
from lt_hpc.report.rows import Iteration, Report
from lt_hpc.run.plan import Plan
from lt_hpc.store.paths import RunPaths
from lt_hpc.trackers import TRACKERS


def figures(row: Iteration) -> dict[str, float]:
    """Name of the curve -> value: held-out measures (NLL as what it is the negative of) and those of the
    E-step, under their names in report.json, with the ends of their 95% intervals; tokens and seconds by
    what they were spent on."""
    held_out = [*columns.LIKELIHOODS.values(), *columns.ANSWERS.values()]
    found: dict[str, float] = {}
    for name in held_out:
        found |= _curve(f"heldout/{name}", columns.shown(row.held_out, name))
    for name in columns.WEIGHTS.values():
        found |= _curve(f"estep/{name}", columns.weighed(row, name))
    found |= {f"tokens/{name}": float(count) for name, count in row.tokens.items()}
    return found | {f"seconds/{stage}": seconds for stage, seconds in row.seconds_by_stage.items()}


def send(plan: Plan, paths: RunPaths, report: Report, run: str) -> None:
    """Give the figures of all iterations to the trackers of a run, whose identity makes them one set of
    curves whatever was requeued or launched again. A failure, such as no network, is printed."""
    if not report.iterations:
        return
    for kind in plan.config.train.trackers:
        first, name = report.iterations[0].number, f"{plan.config.name}-iterations-{run[:8]}"
        try:
            with closing(TRACKERS[kind](paths.trackers, name, first)) as tracker:
                for row in report.iterations:
                    tracker.log(figures(row), row.number)
        except Exception as error:
            print(f"warning: no figures for {kind}: {type(error).__name__}: {error}", file=sys.stderr)


def _curve(name: str, one: Shown) -> dict[str, float]:
    if one.value is None:
        return {}
    low, high = one.interval or (None, None)
    ends = {f"{name}_low": low, f"{name}_high": high}
    return {name: one.value, **{key: value for key, value in ends.items() if value is not None}}
