"""The plots of the report, as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from lt_hpc.report.rows import Iteration

Rows = list[Iteration]


def _svg(draw: Callable[[Any], None], panels: int) -> Markup:
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
    return Markup(f"<figure>{text[text.index('<svg') :]}</figure>")


def measures(rows: Rows) -> Markup:
    """Accuracy, bound and NLL by iteration, with 95% intervals."""
    titles = {"accuracy": "accuracy", "bound": "bound, nats per token", "nll": "NLL, nats per token"}

    def draw(axes: Any) -> None:
        for axis, (name, title) in zip(axes, titles.items(), strict=True):
            points = [
                (row.iteration, getattr(row.heldout, name), getattr(row.heldout.intervals, name))
                for row in rows
                if getattr(row.heldout, name) is not None
            ]
            low = [max(0.0, y - interval[0]) for _, y, interval in points]
            high = [max(0.0, interval[1] - y) for _, y, interval in points]
            axis.errorbar(
                [x for x, _, _ in points], [y for _, y, _ in points], [low, high], marker="o", capsize=3
            )
            axis.set(title=title, xlabel="iteration", xticks=[row.iteration for row in rows])
            axis.grid(alpha=0.3)

    return _svg(draw, 3)


def bounds(rows: Rows) -> Markup:
    """The held-out bound by number of samples of the chunks all of whose thoughts finished, one line per
    iteration, with 95% intervals."""

    def draw(axes: Any) -> None:
        for row in rows:
            heldout = row.heldout
            pairs = zip(heldout.bound_by_k, heldout.intervals.bound_by_k, strict=True)
            points = [
                (k, value, interval)
                for k, (value, interval) in enumerate(pairs, start=1)
                if value is not None and interval is not None
            ]
            ks = [k for k, _, _ in points]
            of = (heldout.chunks or 0) - (heldout.bound_by_k_undefined_chunks or 0)
            label = f"iteration {row.iteration} ({of} of {heldout.chunks} chunks)"
            axes[0].plot(ks, [v for _, v, _ in points], marker=".", label=label)
            axes[0].fill_between(ks, [i[0] for _, _, i in points], [i[1] for _, _, i in points], alpha=0.15)
        axes[0].set(title="bound by K, nats per token", xlabel="samples K")
        axes[0].set_xscale("log", base=2)
        axes[0].legend(fontsize=7)

    return _svg(draw, 1)


def ess(rows: Rows) -> Markup:
    """Histogram of the ESS over chunks, one panel per iteration; last, the mean ESS by length."""

    def draw(axes: Any) -> None:
        for axis, row in zip(axes, rows, strict=False):
            histogram = row.selection and row.selection.ess_histogram
            if histogram:
                edges = histogram.edges
                axis.bar(edges[:-1], histogram.counts, width=edges[1] - edges[0], align="edge")
            axis.set(title=f"iteration {row.iteration}", xlabel="ESS of a chunk", ylabel="chunks")
        for row in rows:
            bins = row.selection.ess_by_length if row.selection else []
            label = f"iteration {row.iteration}"
            axes[-1].plot([b[0] for b in bins], [b[1] for b in bins], marker=".", label=label)
        axes[-1].set(title="mean ESS by length", xlabel="thought tokens, mean of a chunk")
        axes[-1].legend(fontsize=7)

    return _svg(draw, len(rows) + 1)


def costs(rows: Rows) -> Markup:
    """Tokens and seconds by stage, one bar per iteration."""
    iterations = [row.iteration for row in rows]

    def draw(axes: Any) -> None:
        for axis, title, parts in (
            (axes[0], "tokens", [row.tokens for row in rows]),
            (axes[1], "task-seconds", [row.seconds_by_stage for row in rows]),
        ):
            bottom = [0.0] * len(rows)
            for name in sorted({name for part in parts for name in part}):
                heights = [part.get(name, 0) for part in parts]
                axis.bar(iterations, heights, bottom=bottom, label=name)
                bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
            axis.set(title=title, xlabel="iteration", xticks=iterations)
            axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

    return _svg(draw, 2)


def losses(rows: Rows) -> Markup:
    """Training loss by step, one line per iteration."""

    def draw(axes: Any) -> None:
        for row in rows:
            axes[0].plot(row.losses, label=f"iteration {row.iteration}", linewidth=1)
        axes[0].set(title="training loss, nats per token", xlabel="step")
        axes[0].legend(fontsize=7)

    return _svg(draw, 1)
