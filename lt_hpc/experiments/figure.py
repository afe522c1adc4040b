"""The results of an experiment as one SVG: measures by iteration, a line per arm."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lt_hpc.experiments.results import Results, numbers, over_seeds, value_of
from lt_hpc.experiments.tables import TITLES
from lt_hpc.store.atomic import write_text

Point = tuple[int, float]


def write(results: Results, path: Path) -> None:
    """Write the figure; nothing where no measure has been taken."""
    measures = [name for name in results.definition.measures if _all_points(results, name)]
    if not measures:
        return
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "lt_hpc", "font.size": 9}):
        figure, axes = pyplot.subplots(
            1, len(measures), figsize=(1.5 + 4 * len(measures), 3.8), squeeze=False
        )
        for axis, name in zip(axes[0], measures, strict=True):
            _draw(axis, results, name)
        axes[0][-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        figure.tight_layout()
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    write_text(path, stream.getvalue())


def _draw(axis: Any, results: Results, name: str) -> None:
    """A thick line for the mean of an arm and a thin one for each of its seeds. An arm that ends outside of
    the axis is named at its edge."""
    low, high = limits(results, name)
    axis.set_ylim(low, high)
    outside = 0
    last = max(number for number, _ in _all_points(results, name))
    for index, arm in enumerate(results.reports):
        style = {"color": f"C{index % 10}", "ls": "-" if index < 10 else "--"}
        seeds = [_points(results, arm, seed, name) for seed in results.reports[arm]]
        for points in seeds:
            axis.plot(*_coordinates(points), lw=0.6, alpha=0.5, **style)
        mean = _mean(seeds)
        axis.plot(*_coordinates(mean), lw=1.8, marker="o", ms=3, label=arm, **style)
        if mean and not low <= mean[-1][1] <= high:
            place = (0.98, 0.02 + 0.06 * outside)
            axis.annotate(
                f"{arm}: {mean[-1][1]:.3f}", place, xycoords="axes fraction", fontsize=7, ha="right",
                color=style["color"],
            )  # fmt: skip
            outside += 1
    axis.set(title=TITLES.get(name, name), xlabel="iteration", xticks=range(last + 1))
    axis.grid(alpha=0.3)


def limits(results: Results, name: str) -> tuple[float, float]:
    """The axis is that of the arms with thoughts of their own (of all arms, where there are none), and of
    others that end no further from it than it is long: one far away would squash the rest."""
    reports = results.reports
    values = {arm: [value for _, value in _all_points(results, name, [arm])] for arm in reports}
    values = {arm: found for arm, found in values.items() if found}
    own = [arm for arm in values if all(one.config["objective"] == "em" for one in reports[arm].values())]
    inside = [value for arm in own or values for value in values[arm]]
    low, high = min(inside), max(inside)
    for arm in values:
        ends = [points[-1][1] for seed in reports[arm] if (points := _points(results, arm, seed, name))]
        if all(2 * low - high <= end <= 2 * high - low for end in ends):
            inside += ends
    margin = 0.05 * (max(inside) - min(inside)) or 0.05
    return min(inside) - margin, max(inside) + margin


def _points(results: Results, arm: str, seed: int, name: str) -> list[Point]:
    """(iteration, value) of a run."""
    report = results.reports[arm][seed]
    found = [(number, value_of(report, number, name)) for number in numbers(report)]
    return [(number, value) for number, value in found if value is not None]


def _all_points(results: Results, name: str, arms: Sequence[str] | None = None) -> list[Point]:
    return [
        point
        for arm in results.reports
        if arms is None or arm in arms
        for seed in results.reports[arm]
        for point in _points(results, arm, seed, name)
    ]


def _mean(seeds: Sequence[list[Point]]) -> list[Point]:
    numbers = sorted({number for points in seeds for number, _ in points})
    values = {n: [value for points in seeds for number, value in points if number == n] for n in numbers}
    means = [(n, over_seeds(found).value) for n, found in values.items() if len(found) == len(seeds)]
    return [(n, value) for n, value in means if value is not None]


def _coordinates(points: Sequence[Point]) -> tuple[list[int], list[float]]:
    return [number for number, _ in points], [value for _, value in points]
