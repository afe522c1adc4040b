"""Several runs beside each other: their last models, and each one's against that of the first run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lt_hpc.config.fields import walk
from lt_hpc.report import columns
from lt_hpc.report.arms import costs
from lt_hpc.report.changes import Change, compare
from lt_hpc.report.collect import collect, measured_of
from lt_hpc.report.columns import Shown
from lt_hpc.report.rows import Iteration, Report
from lt_hpc.run.plan import Plan
from lt_hpc.run.state import last_plan
from lt_hpc.store import manifest
from lt_hpc.store.measured import Measured
from lt_hpc.store.paths import RunPaths


@dataclass(frozen=True)
class Run:
    """A run with what it found. `label`: its name, or its folder where others have the same name; `measured`:
    of its last model; `held_out`: fingerprint of its held-out documents."""

    label: str
    paths: RunPaths
    plan: Plan
    report: Report
    measured: Measured | None
    held_out: str | None

    @property
    def last(self) -> Iteration | None:
        """The last iteration whose evaluation is done."""
        return self.report.iterations[-1] if self.report.iterations else None


@dataclass(frozen=True)
class Difference:
    """A run's last model against that of the first run. `change`: paired, or None and why not."""

    run: Run
    first: Run
    change: Change | None
    why_not: str = ""

    def lines(self) -> Iterator[str]:
        """In words."""
        numbers = [
            f"iteration {one.last.number} of {one.label}" for one in (self.run, self.first) if one.last
        ]
        yield (
            f"{' against '.join(numbers)}:" if len(numbers) == 2 else f"{self.run.label}, {self.first.label}:"
        )
        if self.change is None:
            yield f"  cannot be paired: {self.why_not}"
        else:
            yield f"  {columns.in_words(self.change)}"
            yield (
                f"  paired over {self.change.documents} documents for log p(x | c), 95% intervals; of one "
                "training run each: other seeds move these figures too"
            )
        for line in costs(self.run.report, self.first.report):
            yield f"  {line}"


def read(folders: Sequence[Path]) -> list[Run]:
    """The runs in some folders.

    Raises:
        ConfigError: when one of them holds no run.
    """
    found = []
    for folder in folders:
        paths = RunPaths(folder)
        plan = last_plan(paths)
        report, held_out = collect(plan, paths), manifest.read(paths.documents("heldout"))
        measured = measured_of(paths, report.iterations[-1].number) if report.iterations else None
        found.append(
            Run(report.name, paths, plan, report, measured, held_out.fingerprint if held_out else None)
        )
    names = [one.label for one in found]
    return [replace(one, label=str(one.paths.root)) if names.count(one.label) > 1 else one for one in found]


def differences(runs: Sequence[Run]) -> list[Difference]:
    """Of every run but the first, against the first."""
    first, *others = runs
    return [_difference(one, first) for one in others]


def _difference(run: Run, first: Run) -> Difference:
    for one in (run, first):
        if one.measured is None or one.held_out is None:
            return Difference(run, first, None, f"{one.paths.root} has no evaluated model of this release")
    if run.held_out != first.held_out:
        return Difference(run, first, None, "their held-out documents are not the same")
    assert run.measured is not None and first.measured is not None
    return Difference(run, first, compare(first.measured, run.measured))


def measures(runs: Sequence[Run]) -> Iterator[list[str | Shown]]:
    """A line for every figure that any of the last models has: title, then its value in each run."""
    yield ["iteration", *(str(one.last.number) if one.last else "–" for one in runs)]
    answers = {
        title if name == "accuracy" else f"answers: {title}": name for title, name in columns.ANSWERS.items()
    }
    for title, name in [*columns.LIKELIHOODS.items(), *answers.items()]:
        shown = [columns.shown(one.last.held_out, name) if one.last else Shown(None, None) for one in runs]
        if any(one.value is not None for one in shown):
            yield [title, *shown]
    for title, name in columns.WEIGHTS.items():
        shown = [columns.weighed(one.last, name) if one.last else Shown(None, None) for one in runs]
        if any(one.value is not None for one in shown):
            yield [f"E-step: {title}", *shown]


def settings(runs: Sequence[Run]) -> tuple[list[list[str]], list[list[str]]]:
    """Fields that differ, with the value in each run: those that decide results, and the others."""
    values = [{name: (value, one.execution) for name, one, value in walk(run.plan.config)} for run in runs]
    differing: tuple[list[list[str]], list[list[str]]] = ([], [])
    for name, (first, execution) in values[0].items():
        if any(of_run[name][0] != first for of_run in values):
            differing[execution].append([name, *(_in_yaml(of_run[name][0]) for of_run in values)])
    return differing


def _in_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def provenance(runs: Sequence[Run]) -> Iterator[list[str]]:
    """A line for every fact: folder, plan, state, then where and by what each run was made."""
    yield ["folder", *(str(one.paths.root) for one in runs)]
    yield ["plan", *(one.report.plan for one in runs)]
    yield ["state", *(standing(one.report) for one in runs)]
    for fact in dict.fromkeys(fact for one in runs for fact in one.report.provenance):
        yield [fact, *(", ".join(one.report.provenance.get(fact, [])) or "–" for one in runs)]


def standing(report: Report) -> str:
    """How far a run is, in words."""
    if report.complete:
        return "complete"
    to_do = list(report.to_do)
    more = f" and {len(to_do) - 4} more" if len(to_do) > 4 else ""
    return f"not finished: {', '.join(to_do[:4])}{more} to do"
