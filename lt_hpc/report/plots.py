"""The plots of the report, as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lt_hpc.report import columns
from lt_hpc.report.rows import Iteration
from lt_hpc.store.figures import SelectionStatistics

Rows = Sequence[Iteration]
Selections = Mapping[int, SelectionStatistics]
"""By iteration."""


def _svg(draw: Callable[[Any], None], panels: int) -> str:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "lt_hpc", "font.size": 9}):
        figure, axes = pyplot.subplots(1, panels, figsize=(3.2 * panels, 2.7), squeeze=False)
        draw(axes[0])
        figure.tight_layout()
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    text = stream.getvalue()
    return f"<figure>{text[text.index('<svg') :]}</figure>"


def measures(rows: Rows) -> str:
    """Accuracy, log p(x | c), bound and raw text by iteration, with 95% intervals."""
    titles = {
        "accuracy": "accuracy",
        "log_likelihood": "log p(x | c), nats per token",
        "bound": "bound, nats per token",
        "nll": "raw text, nats per token",
    }

    def draw(axes: Any) -> None:
        for axis, (name, title) in zip(axes, titles.items(), strict=True):
            found = [(row.number, columns.shown(row.held_out, name)) for row in rows]
            known = [(number, one.value, one.interval) for number, one in found if one.value is not None]
            values = [value for _, value, _ in known]
            # Without an interval, over one document or of an older release, a point without bars.
            spread = [
                [0.0 if one is None else max(0.0, side * (value - one[end])) for _, value, one in known]
                for end, side in ((0, 1), (1, -1))
            ]
            axis.errorbar([number for number, *_ in known], values, spread, marker="o", capsize=3)
            axis.set(title=title, xlabel="iteration", xticks=[row.number for row in rows])
            axis.grid(alpha=0.3)

    return _svg(draw, len(titles))


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
            axis.set(title=title, xlabel="iteration", xticks=[row.number for row in rows])
            axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

    return _svg(draw, 2)


def losses(rows: Rows) -> str:
    """Training loss by step, a line per iteration."""

    def draw(axes: Any) -> None:
        for row in rows:
            axes[0].plot(row.losses, label=f"iteration {row.number}", linewidth=1)
        axes[0].set(title="training loss, nats per token", xlabel="step")
        axes[0].legend(fontsize=7)

    return _svg(draw, 1)
