"""The report as one self-contained HTML page: plots as inline SVG, no script, no link out."""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from typing import Any

Decode = Callable[[list[int]], str]

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;margin:1rem 0}th,td{border-bottom:1px solid #ddd;padding:.3rem .7rem;
text-align:right}th{background:#f5f5f5}td.text{text-align:left;font-family:ui-monospace,monospace;
font-size:13px;white-space:pre-wrap}figure{margin:0;display:inline-block}svg{max-width:100%;height:auto}
.warn{background:#fff4e0;border-left:4px solid #d9822b;padding:.5rem 1rem}.picked{background:#eaf6ea}
"""
_COLLAPSED_ESS = 1.2
"""Mean ESS below which selection is little more than taking the largest weight."""


def render(report: dict[str, Any], decode: Decode) -> str:
    """The whole page."""
    rows = report["iterations"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(report['name'])}</title>",
        f"<style>{_STYLE}</style><h1>{_text(report['name'])}: latent thoughts by EM</h1>",
        _introduction(report),
        *(f'<p class="warn">{_text(line)}</p>' for line in warnings(rows)),
        _table(rows),
    ]
    if rows:
        parts += [
            _measures(rows),
            _ess(rows),
            _costs(rows),
            _losses(rows),
            _thoughts(rows, decode),
            _answers(rows),
        ]
    return "\n".join(part for part in parts if part)


def warnings(rows: list[dict[str, Any]]) -> list[str]:
    """What a reader should act on, in words."""
    found = []
    for row in rows:
        selection, where = row["selection"], f"Iteration {row['iteration']}"
        if not selection:
            continue
        ess, num_samples = selection["ess_mean"], selection["num_samples"]
        if num_samples > 1 and ess < _COLLAPSED_ESS:
            found.append(
                f"{where}: the mean ESS is {ess:.2f} of {num_samples}: selection has collapsed to taking the "
                "largest weight, and the weights say little. More samples or a better warm start would help."
            )
        if selection["unfinished_share"] > 0.05:
            found.append(
                f"{where}: {selection['unfinished_share']:.0%} of the thoughts did not finish within "
                "sample.max_thought_tokens and have weight zero."
            )
        if selection["fallback_chunks"]:
            found.append(f"{where}: {selection['fallback_chunks']} chunks had no finished thought at all.")
    return found


def _introduction(report: dict[str, Any]) -> str:
    config = report["config"]
    corpora = "; ".join(
        f"{name}: {counts.get('chunks', 0)} chunks, {counts.get('tokens', 0)} tokens"
        + "".join(f", {n} {reason}" for reason, n in counts.items() if reason.startswith("dropped"))
        for name, counts in report["corpora"].items()
    )
    return (
        f"<p>Objective {_text(config['objective'])}, base {_text(config['model']['path'])}, "
        f"K = {config['sample']['num_samples']}, engine {_text(config['sample']['engine'])}, "
        f"seed {config['seed']}. {_text(corpora)}.</p><p>Bound: K-sample importance-weighted lower bound on "
        "log p(x | c) with the model's own posterior, higher is better. NLL: of the raw held-out text, "
        "without markers or thoughts. Nats a token.</p>"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    columns = {
        "iteration": "iteration", "accuracy": "accuracy", "accuracy_sampled": "accuracy, sampled",
        "accuracy_direct": "accuracy, no thought", "bound": "bound", "nll": "NLL",
        "nll_marked": "NLL, marked", "ess_mean": "ESS",
        "selected_unfinished": "unfinished selected", "seconds": "seconds",
    }  # fmt: skip
    head = "".join(f"<th>{title}</th>" for title in columns.values())
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(row.get(key))}</td>" for key in columns) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return html.escape(str(value))


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


def _measures(rows: list[dict[str, Any]]) -> str:
    def draw(axes: Any) -> None:
        for axis, (key, title) in zip(
            axes,
            (("accuracy", "accuracy"), ("bound", "bound, nats a token"), ("nll", "NLL, nats a token")),
            strict=True,
        ):
            points = [(row["iteration"], row[key]) for row in rows if row[key] is not None]
            axis.plot([x for x, _ in points], [y for _, y in points], marker="o")
            axis.set(title=title, xlabel="iteration", xticks=[row["iteration"] for row in rows])
            axis.grid(alpha=0.3)

    return "<h2>Held-out measures</h2>" + _svg(draw, 3)


def _ess(rows: list[dict[str, Any]]) -> str:
    chosen = [row for row in rows if row["selection"]]
    if not chosen:
        return ""

    def draw(axes: Any) -> None:
        for axis, row in zip(axes, chosen, strict=True):
            histogram = row["selection"]["ess_histogram"]
            edges = histogram["edges"]
            axis.bar(edges[:-1], histogram["counts"], width=edges[1] - edges[0], align="edge")
            axis.set(title=f"iteration {row['iteration']}", xlabel="ESS of a chunk", ylabel="chunks")

    return "<h2>Effective sample size of the selection</h2>" + _svg(draw, len(chosen))


def _costs(rows: list[dict[str, Any]]) -> str:
    def draw(axes: Any) -> None:
        for axis, key, title in ((axes[0], "tokens", "tokens"), (axes[1], "seconds_by_stage", "seconds")):
            names = sorted({name for row in rows for name in row[key]})
            bottom = [0.0] * len(rows)
            for name in names:
                heights = [row[key].get(name, 0) for row in rows]
                axis.bar([row["iteration"] for row in rows], heights, bottom=bottom, label=name)
                bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
            axis.set(title=title, xlabel="iteration", xticks=[row["iteration"] for row in rows])
            axis.legend(fontsize=7)

    return "<h2>Tokens and time by stage</h2>" + _svg(draw, 2)


def _losses(rows: list[dict[str, Any]]) -> str:
    def draw(axes: Any) -> None:
        for row in rows:
            axes[0].plot(row["losses"], label=f"iteration {row['iteration']}", linewidth=1)
        axes[0].set(title="training loss, nats a token", xlabel="step")
        axes[0].legend(fontsize=7)

    return "<h2>Training</h2>" + _svg(draw, 1)


def _thoughts(rows: list[dict[str, Any]], decode: Decode) -> str:
    last = [row for row in rows if row["selection"]]
    if not last:
        return ""
    lines = []
    for example in last[-1]["selection"]["examples"]:
        ranked = sorted(enumerate(example["weights"]), key=lambda pair: -pair[1])
        shown = ranked if len(ranked) <= 4 else [*ranked[:2], *ranked[-2:]]
        for k, weight in shown:
            style = ' class="picked"' if k == example["selected"] else ""
            text = _text(decode(example["thoughts"][k]))
            cells = f"<td>{example['chunk']}</td><td>{weight:.3f}</td>"
            lines.append(f'<tr{style}>{cells}<td class="text">{text}</td></tr>')
    title = f"<h2>Thoughts of iteration {last[-1]['iteration']} with their weights</h2>"
    return (
        f"{title}<p>Highest and lowest weight of some chunks; the selected one is shaded.</p>"
        f"<table><tr><th>chunk</th><th>weight</th><th>thought</th></tr>{''.join(lines)}</table>"
    )


def _answers(rows: list[dict[str, Any]]) -> str:
    examples = rows[-1]["examples"]
    if not examples:
        return ""
    keys = ("prefix", "thought", "answer", "suffix")
    rendered = ["".join(f'<td class="text">{_text(e[key])}</td>' for key in keys) for e in examples]
    lines = "".join(f"<tr>{cells}</tr>" for cells in rendered)
    return (
        "<h2>Held-out answers of the last model</h2><table><tr><th>question</th><th>thought</th>"
        f"<th>answer</th><th>expected</th></tr>{lines}</table>"
    )
