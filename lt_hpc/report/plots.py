"""The plots of the report, as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

Rows = list[dict[str, Any]]


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
    """Accuracy, bound and NLL by iteration, with 95% intervals."""

    def draw(axes: Any) -> None:
        for axis, (key, title) in zip(
            axes,
            (("accuracy", "accuracy"), ("bound", "bound, nats a token"), ("nll", "NLL, nats a token")),
            strict=True,
        ):
            points = [(row["iteration"], row[key], row["intervals"][key]) for row in rows]
            points = [point for point in points if point[1] is not None]
            low = [y - interval[0] for _, y, interval in points]
            high = [interval[1] - y for _, y, interval in points]
            spread = [[max(0.0, width) for width in side] for side in (low, high)]
            axis.errorbar([p[0] for p in points], [p[1] for p in points], spread, marker="o", capsize=3)
            axis.set(title=title, xlabel="iteration", xticks=[row["iteration"] for row in rows])
            axis.grid(alpha=0.3)

    return _svg(draw, 3)


def bounds(rows: Rows) -> str:
    """The held-out bound by number of samples of the chunks all of whose thoughts finished, a line an
    iteration, with 95% intervals."""

    def draw(axes: Any) -> None:
        for row in rows:
            points = [
                (k, value, interval)
                for k, (value, interval) in enumerate(
                    zip(row["bound_by_k"], row["intervals"]["bound_by_k"], strict=True), start=1
                )
                if value is not None
            ]
            ks = [k for k, _, _ in points]
            of = row["chunks"] - row["bound_by_k_undefined_chunks"]
            label = f"iteration {row['iteration']} ({of} of {row['chunks']} chunks)"
            axes[0].plot(ks, [v for _, v, _ in points], marker=".", label=label)
            axes[0].fill_between(ks, [i[0] for _, _, i in points], [i[1] for _, _, i in points], alpha=0.15)
        axes[0].set(title="bound by K, nats a token", xlabel="samples K")
        axes[0].set_xscale("log", base=2)
        axes[0].legend(fontsize=7)

    return _svg(draw, 1)


def ess(rows: Rows) -> str:
    """Histogram of the ESS over chunks, a panel an iteration; last, the mean ESS by length."""

    def draw(axes: Any) -> None:
        for axis, row in zip(axes, rows, strict=False):
            histogram = row["selection"]["ess_histogram"]
            edges = histogram["edges"]
            axis.bar(edges[:-1], histogram["counts"], width=edges[1] - edges[0], align="edge")
            axis.set(title=f"iteration {row['iteration']}", xlabel="ESS of a chunk", ylabel="chunks")
        for row in rows:
            bins = row["selection"]["ess_by_length"]
            label = f"iteration {row['iteration']}"
            axes[-1].plot([b[0] for b in bins], [b[1] for b in bins], marker=".", label=label)
        axes[-1].set(title="mean ESS by length", xlabel="thought tokens, mean of a chunk")
        axes[-1].legend(fontsize=7)

    return _svg(draw, len(rows) + 1)


def costs(rows: Rows) -> str:
    """Tokens and seconds by stage, a bar an iteration."""

    def draw(axes: Any) -> None:
        for axis, key, title in (
            (axes[0], "tokens", "tokens"),
            (axes[1], "seconds_by_stage", "task-seconds"),
        ):
            names = sorted({name for row in rows for name in row[key]})
            bottom = [0.0] * len(rows)
            for name in names:
                heights = [row[key].get(name, 0) for row in rows]
                axis.bar([row["iteration"] for row in rows], heights, bottom=bottom, label=name)
                bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
            axis.set(title=title, xlabel="iteration", xticks=[row["iteration"] for row in rows])
            axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

    return _svg(draw, 2)


def losses(rows: Rows) -> str:
    """Training loss by step, a line an iteration."""

    def draw(axes: Any) -> None:
        for row in rows:
            axes[0].plot(row["losses"], label=f"iteration {row['iteration']}", linewidth=1)
        axes[0].set(title="training loss, nats a token", xlabel="step")
        axes[0].legend(fontsize=7)

    return _svg(draw, 1)
