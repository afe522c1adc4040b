"""The results of an experiment as Markdown."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

from lt_hpc.experiments.definition import HELD_OUT, PAIRED, is_score
from lt_hpc.experiments.results import Results, matching, over_seeds, value_of, without_scores
from lt_hpc.report import arms, columns
from lt_hpc.report.columns import Shown
from lt_hpc.report.rows import Report

TITLES = {
    name: title
    for titles in (columns.LIKELIHOODS, columns.WEIGHTS, columns.ANSWERS)
    for title, name in titles.items()
}


def _seconds(report: Report) -> float:
    return sum(row.seconds for row in report.iterations)


def _sampled(report: Report) -> float:
    return sum(row.tokens["sampled"] for row in report.iterations)


COSTS: dict[str, Callable[[Report], float | None]] = {
    "sampled tokens": _sampled,
    **{title: functools.partial(arms.cost, name=name) for name, title in arms.COSTS.items()},
    "seconds of all tasks": _seconds,
}


def lines(results: Results) -> Iterator[str]:
    """All tables, with what is missing and what the figures are."""
    one = results.definition
    yield f"## {one.title} ({one.name}, {one.size})\n\n{one.question}\n"
    if results.reports:
        yield _interval_note(results)
        yield from _figures(results)
        yield from [f"\n{line}" for line in without_scores(results)]
        if results.pairs():
            yield from _differences(results)
        for arm in one.by_iteration:
            if arm in results.reports:
                yield from _by_iteration(results, arm)
        yield from _costs(results)
    if results.missing:
        yield f"\nnot done: {'; '.join(results.missing)}"


def _interval_note(results: Results) -> str:
    counts = {len(by_seed) for by_seed in results.reports.values()}
    said = "Means over seeds with their 95% t intervals; "
    if any(map(is_score, results.definition.measures)):
        said += "a score in a benchmark is first the mean of its trials; "
    if 1 in counts:
        said += "a figure of one seed has no interval over seeds and is marked (one seed); "
    return f"{said}log-probabilities in nats per token, higher is better.\n"


def _figures(results: Results) -> Iterator[str]:
    """A line per arm: its last models."""
    measures = results.definition.measures
    yield from _head(["arm", "iterations", *(TITLES.get(name, name) for name in measures)])
    for arm, by_seed in results.reports.items():
        cells = [_cell(results.figure(arm, name), len(by_seed)) for name in measures]
        yield _line([arm, str(results.definition.arms[arm].iterations), *cells])


def _differences(results: Results) -> Iterator[str]:
    """A line per pair of arms: the last models, and the verdicts by seed."""
    measures = results.compared
    yield f"\nLast models, first less second, {_pairing(measures)}:\n"
    titles = [TITLES.get(name, name) for name in measures]
    yield from _head(["first – second", *titles, "verdicts by seed, by log p(x \\| c)"])
    for pair, seeds in results.pairs().items():
        cells = [_cell(results.difference(pair, name), len(seeds), "+") for name in measures]
        verdicts = [one.verdict for one in results.changes.get(pair, {}).values()]
        yield _line([" – ".join(pair), *cells, ", ".join(verdicts) or "–"])


def _pairing(measures: Sequence[str]) -> str:
    """What is paired in the differences of these measures, and what is not."""
    by_document = "paired over documents within each seed"
    if not any(map(is_score, measures)):
        return by_document
    scores = "scores in benchmarks are paired by seed alone, not over items"
    return f"{by_document}; {scores}" if not all(map(is_score, measures)) else scores


def _by_iteration(results: Results, arm: str) -> Iterator[str]:
    """A line per iteration of an arm: its model, and how far its answers have moved."""
    reports = list(results.reports[arm].values())
    measures = [name for name in results.definition.measures if name in HELD_OUT]
    moving = [name for name in measures if name in PAIRED and name.startswith("accuracy")]
    yield f"\n{arm}, by iteration; changes are paired over documents within each seed:\n"
    titles = [TITLES.get(name, name) for name in measures]
    changes = [f"change of {TITLES.get(name, name)}" for name in moving]
    yield from _head(["iteration", *titles, *changes, "verdicts by seed, by log p(x \\| c)"])
    for rows in zip(*(report.iterations for report in reports), strict=True):
        number = rows[0].number
        moved = [row.change for row in rows if row.change is not None]
        reached = [
            over_seeds((value_of(report, number, name) for report in reports), name) for name in measures
        ]
        gained = [over_seeds(columns.changed(one, name).value for one in moved) for name in moving]
        yield _line(
            [
                str(number),
                *(_cell(one, len(rows)) for one in reached),
                *(_cell(one, len(moved), "+") for one in gained),
                ", ".join(one.verdict for one in moved),
            ]
        )


def _costs(results: Results) -> Iterator[str]:
    """What each arm took: as though it had made all that it shares with others."""
    yield "\nWhat a run took, the warm start included, shared work counted for each arm that needs it:\n"
    yield from _head(["arm", *COSTS])
    for arm in results.reports:
        found = [results.cost(arm, cost).value for cost in COSTS.values()]
        yield _line([arm, *("unknown" if value is None else f"{value:.4g}" for value in found)])
    matched = matching(results)
    yield from ["", *matched] if matched else []


def _cell(figure: Shown, seeds: int, sign: str = "") -> str:
    if figure.value is None:
        return "–"
    if figure.interval is None:
        return f"{figure.value:{sign}.3f} (one seed)"
    return f"{figure.value:{sign}.3f} [{figure.interval[0]:{sign}.3f}, {figure.interval[1]:{sign}.3f}]"


def _head(titles: Sequence[str]) -> Iterator[str]:
    yield _line([title.replace(" | ", " \\| ") for title in titles])
    yield "|---" * len(titles) + "|"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
