"""The plots of the report, as inline SVG, one for each chart."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lt_hpc.report import columns
from lt_hpc.report.columns import Shown
from lt_hpc.report.rows import Iteration
from lt_hpc.report.thoughts import Drift
from lt_hpc.report.work import Work
from lt_hpc.store.figures import SelectionStatistics

Rows = Sequence[Iteration]
Selections = Mapping[int, SelectionStatistics]
"""By iteration."""


def _svg(draw: Callable[[Any], None], panels: int, size: tuple[float, float] = (3.0, 2.5)) -> str:
    """Charts, each an SVG of its own: beside each other or below, as wide as the screen is."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "lt_hpc", "font.size": 9}):
        drawn = [pyplot.subplots(figsize=size) for _ in range(panels)]
        draw([axis for _, axis in drawn])
        charts = [_text(figure) for figure, _ in drawn]
        for figure, _ in drawn:
            pyplot.close(figure)
    one = " one" if panels == 1 and size[0] > 5 else ""
    return f'<div class="charts{one}">{"".join(charts)}</div>'


def _text(figure: Any) -> str:
    figure.tight_layout()
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return f"<figure>{text[text.index('<svg') :]}</figure>"


MEASURES = {
    "accuracy": "accuracy",
    "log_likelihood": "log p(x | c), nats per token",
    "bound": "bound, nats per token",
    "nll": "raw text, nats per token",
}
"""Held-out measures -> titles of their charts."""


def measures(rows: Rows) -> str:
    """Accuracy, log p(x | c), bound and raw text by iteration, with 95% intervals."""

    def draw(axes: Any) -> None:
        for axis, (name, title) in zip(axes, MEASURES.items(), strict=True):
            _points(axis, [(row.number, columns.shown(row.held_out, name)) for row in rows])
            axis.set(title=title, xlabel="iteration", xticks=[row.number for row in rows])

    return _svg(draw, len(MEASURES))


def _points(axis: Any, found: Sequence[tuple[int, Shown]], label: str | None = None) -> None:
    known = [(number, one.value, one.interval) for number, one in found if one.value is not None]
    # Without an interval, over one document or of an older release, a point without bars.
    spread = [
        [0.0 if one is None else max(0.0, side * (value - one[end])) for _, value, one in known]
        for end, side in ((0, 1), (1, -1))
    ]
    numbers, values = [number for number, *_ in known], [value for _, value, _ in known]
    axis.errorbar(numbers, values, spread, marker="o", capsize=3, label=label)
    axis.grid(alpha=0.3)


def bounds(rows: Rows) -> str:
    """The held-out bound by number of thoughts, a line per iteration, with 95% intervals."""

    def draw(axes: Any) -> None:
        for row in rows:
            held_out = row.held_out
            found = enumerate(zip(held_out.bound_by_k, held_out.intervals.bound_by_k, strict=False), start=1)
            points = [(k, v, i) for k, (v, i) in found if v is not None and i is not None]
            ks = [k for k, _, _ in points]
            axes[0].plot(ks, [v for _, v, _ in points], marker=".", label=f"iteration {row.number}")
            axes[0].fill_between(ks, [i[0] for _, _, i in points], [i[1] for _, _, i in points], alpha=0.15)
        axes[0].set(title="bound by K, nats per token", xlabel="thoughts K")
        axes[0].set_xscale("log", base=2)
        axes[0].legend(fontsize=7)

    return _svg(draw, 1)


def ess(selections: Selections) -> str:
    """Histogram of the ESS over chunks, a panel per iteration; last, the mean ESS by length."""

    def draw(axes: Any) -> None:
        for axis, (iteration, selection) in zip(axes, selections.items(), strict=False):
            label = f"iteration {iteration}"
            if histogram := selection.ess_histogram:
                edges = histogram.edges
                axis.bar(edges[:-1], histogram.counts, width=edges[1] - edges[0], align="edge")
            axis.set(title=label, xlabel="ESS of a chunk", ylabel="chunks")
            bins = selection.ess_by_length
            axes[-1].plot([b[0] for b in bins], [b[1] for b in bins], marker=".", label=label)
        axes[-1].set(title="mean ESS by length", xlabel="thought tokens, mean of a chunk")
        axes[-1].legend(fontsize=7)

    return _svg(draw, len(selections) + 1)


def costs(rows: Rows) -> str:
    """Tokens and seconds by stage, a bar per iteration."""

    def draw(axes: Any) -> None:
        for axis, key, title in (
            (axes[0], "tokens", "tokens"),
            (axes[1], "seconds_by_stage", "task-seconds"),
        ):
            parts: list[dict[str, float]] = [getattr(row, key) for row in rows]
            names = sorted({name for part in parts for name in part})
            bottom = [0.0] * len(rows)
            for name in names:
                heights = [part.get(name, 0) for part in parts]
                axis.bar([row.number for row in rows], heights, bottom=bottom, label=name)
                bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
            axis.set(xlabel="iteration", xticks=[row.number for row in rows])
            axis.set_title(title, pad=30)
            axis.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncol=3, frameon=False)

    return _svg(draw, 2)


def losses(rows: Rows) -> str:
    """Training loss by step, a line per iteration."""

    def draw(axes: Any) -> None:
        for row in rows:
            axes[0].plot(row.losses, label=f"iteration {row.number}", linewidth=1)
        axes[0].set(title="training loss, nats per token", xlabel="step")
        axes[0].legend(fontsize=7)

    return _svg(draw, 1)


def timeline(work: Sequence[Work]) -> str:
    """When tasks of each stage were at work, a bar for each stretch; crosses where some were stopped."""
    begin = min((one.spans[0][0] for one in work if one.spans), default=0.0)
    end = max((one.spans[-1][1] for one in work if one.spans), default=0.0)
    unit, name = (3600.0, "hours") if end - begin > 2 * 3600 else (60.0, "minutes")

    def draw(axes: Any) -> None:
        for row, one in enumerate(work):
            bars = [((low - begin) / unit, (high - low) / unit) for low, high in one.spans]
            axes[0].broken_barh(bars, (row - 0.35, 0.7), linewidth=0.5, edgecolor="C0")
            stops = [(at - begin) / unit for at in sorted(set(one.stops))]
            axes[0].plot(stops, [row] * len(stops), "x", color="C3")
        axes[0].set(xlabel=f"{name} since the first start", ylim=(len(work) - 0.5, -0.5))
        axes[0].set_yticks(range(len(work)), [one.stage for one in work])
        axes[0].grid(axis="x", alpha=0.3)

    return _svg(draw, 1, (7.2, 0.8 + 0.2 * len(work)))


def drift(rows: Sequence[Drift]) -> str:
    """The figures of selected thoughts by iteration, with 95% intervals."""
    titles = columns.of_drift(rows)

    def draw(axes: Any) -> None:
        for axis, (title, name) in zip(axes, titles.items(), strict=True):
            _points(axis, [(row.number, columns.drifted(row, name)) for row in rows])
            axis.set(title=title, xlabel="iteration", xticks=[row.number for row in rows])

    return _svg(draw, len(titles))


def side_by_side(runs: Mapping[str, Rows]) -> str:
    """Held-out measures by iteration, a line per run, with 95% intervals."""
    titles = {
        name: title
        for name, title in MEASURES.items()
        if any(columns.shown(row.held_out, name).value is not None for rows in runs.values() for row in rows)
    }

    def draw(axes: Any) -> None:
        for axis, (name, title) in zip(axes, titles.items(), strict=True):
            for label, rows in runs.items():
                _points(axis, [(row.number, columns.shown(row.held_out, name)) for row in rows], label)
            axis.set(title=title, xlabel="iteration")
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.legend(fontsize=7)

    return _svg(draw, len(titles))
