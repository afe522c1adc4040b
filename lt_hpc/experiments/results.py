"""What the runs of an experiment found: figures of each, and one against the other, over seeds.

Documents and training differ by seed, so a figure over seeds has the t interval of their values; a single
seed has none. Two arms are compared within a seed, and the differences over seeds: held-out measures document
by document, scores in benchmarks as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lt_hpc.experiments.arms import ArmRun, tokenise_alike
from lt_hpc.experiments.definition import HELD_OUT, PAIRED, Definition, is_score
from lt_hpc.latent import intervals
from lt_hpc.report import arms, benchmarks, columns
from lt_hpc.report.changes import Change, compare
from lt_hpc.report.collect import collect, measured_of
from lt_hpc.report.columns import Shown
from lt_hpc.report.rows import Iteration, Report
from lt_hpc.store.figures import to_json
from lt_hpc.store.measured import Measured

BySeed = dict[int, Report]
SHARES = ("accuracy", "likelihood_prior", "cut_share", "largest_weight")
"""What the names of measures between 0 and 1 begin with; of scores in benchmarks it is not known."""


@dataclass(frozen=True)
class Results:
    """`reports`: arm -> seed -> report of a run that is done. `changes`: pair -> seed -> the last model of
    the first arm less that of the second, on held-out documents. `missing`: the runs that are not done."""

    definition: Definition
    seeds: tuple[int, ...]
    reports: dict[str, BySeed]
    changes: dict[tuple[str, str], dict[int, Change]]
    missing: list[str] = field(default_factory=list)

    def figure(self, arm: str, name: str) -> Shown:
        """A measure of the last models of an arm, over seeds."""
        return over_seeds((last_value(report, name) for report in self.reports[arm].values()), name)

    @property
    def compared(self) -> list[str]:
        """The measures of which pairs of arms have differences."""
        return [name for name in self.definition.measures if name in PAIRED or is_score(name)]

    def pairs(self) -> dict[tuple[str, str], list[int]]:
        """Pairs of arms -> the seeds with which both are done; those without any are left out."""
        reports = self.reports
        found = {
            pair: [seed for seed in reports.get(pair[0], {}) if seed in reports.get(pair[1], {})]
            for pair in self.definition.pairs
        }
        return {pair: seeds for pair, seeds in found.items() if seeds}

    def difference(self, pair: tuple[str, str], name: str) -> Shown:
        """Of the last models of two arms, over seeds."""
        if is_score(name):
            return over_seeds(self.scores_by_seed(pair, name).values())
        return over_seeds(columns.changed(one, name).value for one in self.changes.get(pair, {}).values())

    def scores_by_seed(self, pair: tuple[str, str], name: str) -> dict[int, float | None]:
        """How much better the last model of the first arm scores, by seed; None where one has no score."""
        found: dict[int, float | None] = {}
        for seed in self.pairs().get(pair, []):
            first, second = (last_value(self.reports[arm][seed], name) for arm in pair)
            found[seed] = None if first is None or second is None else first - second
        return found

    def cost(self, arm: str, of: Callable[[Report], float | None]) -> Shown:
        """What an arm took, over seeds, the warm start included."""
        return over_seeds(of(report) for report in self.reports[arm].values())

    def to_json(self) -> dict[str, Any]:
        """Everything that tables and figure are made from."""
        one = self.definition
        return {
            "format": 1,
            "experiment": {"name": one.name, "size": one.size, "title": one.title, "question": one.question},
            "seeds": list(self.seeds),
            "missing": self.missing,
            "arms": {
                name: {
                    "overrides": [*one.overrides, *one.arms[name].overrides],
                    "iterations": one.arms[name].iterations,
                    "figures": {measure: _json(self.figure(name, measure)) for measure in one.measures},
                    "rows": {
                        seed: [_row(row) for row in found.iterations] for seed, found in by_seed.items()
                    },
                    "benchmarks": {
                        seed: [to_json(row) for row in found.benchmarks] for seed, found in by_seed.items()
                    },
                }
                for name, by_seed in self.reports.items()
            },
            "pairs": [
                {
                    "first": pair[0],
                    "second": pair[1],
                    "differences": {name: _json(self.difference(pair, name)) for name in self.compared},
                    "by_seed": {seed: to_json(one) for seed, one in self.changes.get(pair, {}).items()},
                    "scores_by_seed": {
                        name: self.scores_by_seed(pair, name) for name in one.measures if is_score(name)
                    },
                }
                for pair in self.pairs()
            ],
        }


def gather(definition: Definition, runs: Sequence[ArmRun]) -> Results:
    """Of the runs that are done, under the plans that the definition says now."""
    reports: dict[str, BySeed] = {}
    last: dict[tuple[str, int], Measured | None] = {}
    missing = []
    for run in runs:
        if run.is_done:
            reports.setdefault(run.arm.name, {})[run.seed] = collect(run.plan, run.paths)
            last[run.arm.name, run.seed] = measured_of(run.paths, run.arm.iterations)
        else:
            missing.append(str(run))
    seeds = tuple(dict.fromkeys(run.seed for run in runs))
    of = {(run.arm.name, run.seed): run for run in runs}
    changes: dict[tuple[str, str], dict[int, Change]] = {}
    for pair in definition.pairs:
        for seed in seeds:
            first, second = (last.get((arm, seed)) for arm in pair)
            alike = tokenise_alike(of[pair[0], seed], of[pair[1], seed])
            if first is not None and second is not None and alike:
                changes.setdefault(pair, {})[seed] = compare(second, first)
    return Results(definition, seeds, reports, changes, missing)


def over_seeds(values: Iterable[float | None], measure: str = "") -> Shown:
    """Mean and t interval over the values of seeds; without an interval of one seed, and nothing where one
    of them has no value. That of a share ends at none and at all."""
    found = list(values)
    known = [value for value in found if value is not None]
    if not known or len(known) < len(found):
        return Shown(None, None)
    mean, interval = intervals.ratio(np.array(known), np.ones(len(known)))
    if interval is not None and measure.startswith(SHARES):
        interval = (max(0.0, interval[0]), min(1.0, interval[1]))
    return Shown(mean, interval)


def numbers(report: Report) -> list[int]:
    """The iterations of which anything is measured."""
    measured = {one.number for one in report.iterations}
    return sorted(measured | {one.number for one in report.benchmarks})


def last_value(report: Report, name: str) -> float | None:
    """A measure of the last model of a run."""
    found = numbers(report)
    return value_of(report, found[-1], name) if found else None


def value_of(report: Report, number: int, name: str) -> float | None:
    """A measure of the model of an iteration or of the weights behind it, or its score in a benchmark."""
    if is_score(name):
        answered = next((one for one in report.benchmarks if one.number == number), None)
        score = None if answered is None else benchmarks.score(answered, name)
        return None if score is None else score.value
    row = next((one for one in report.iterations if one.number == number), None)
    if row is None:
        return None
    return (columns.shown(row.held_out, name) if name in HELD_OUT else columns.weighed(row, name)).value


def without_scores(results: Results) -> list[str]:
    """What to say of scores that no benchmark gave, each once."""
    return list(
        dict.fromkeys(
            said
            for by_seed in results.reports.values()
            for report in by_seed.values()
            for name in filter(is_score, results.definition.measures)
            if report.benchmarks and (said := benchmarks.without_score(report.benchmarks[-1], name))
        )
    )


def matching(results: Results) -> list[str]:
    """Whether arms that say `matched` took as much as those they are compared with, by pair and seed."""
    lines = []
    for first, second in results.pairs():
        for seed, report in results.reports[first].items():
            control = results.reports[second].get(seed)
            if control is not None:
                lines += [
                    f"{first} – {second}, seed {seed}:{line.removeprefix(' ')}"
                    for line in arms.matched(report, control)
                ]
    return lines


def _json(one: Shown) -> Mapping[str, Any]:
    return {"value": one.value, "interval": one.interval}


def _row(row: Iteration) -> dict[str, Any]:
    """A row of report.json without what is long, or no figure."""
    long = ("examples", "losses", "ess_histogram", "ess_by_length")
    found = {name: value for name, value in row.to_json().items() if name not in long}
    found["selection"] = {name: value for name, value in found["selection"].items() if name not in long}
    return found
