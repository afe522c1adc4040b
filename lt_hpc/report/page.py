"""The report as one self-contained HTML page: no script, no link out."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from lt_hpc.report import plots
from lt_hpc.report.warnings import warnings

Decode = Callable[[list[int]], str]

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;margin:1rem 0;font-size:15px}th,td{border-bottom:1px solid #ddd;
padding:.3rem .5rem;text-align:right}th{background:#f5f5f5;font-weight:600}.text{text-align:left}
td.text{font-family:ui-monospace,monospace;font-size:13px;white-space:pre-wrap}figure{margin:0;display:inline-block}svg{max-width:100%;height:auto}
.warn{background:#fff4e0;border-left:4px solid #d9822b;padding:.5rem 1rem}.picked{background:#eaf6ea}
"""


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
        parts += ["<h2>Held-out measures</h2>", plots.measures(rows)]
        if any(value is not None for row in rows for value in row["bound_by_k"]):
            parts.append(plots.bounds(rows))
        chosen = [row for row in rows if row["selection"]]
        if chosen:
            parts += ["<h2>Importance weights</h2>", _weights(chosen), plots.ess(chosen)]
            parts.append(_thoughts(chosen[-1], decode))
        parts += ["<h2>Training</h2>", plots.losses(rows)]
        parts += ["<h2>Tokens and time by stage</h2>", plots.costs(rows), _answers(rows)]
    return "\n".join(part for part in parts if part)


def _introduction(report: dict[str, Any]) -> str:
    config = report["config"]
    corpora = "; ".join(
        f"{name}: {counts.get('chunks', 0)} chunks, {counts.get('tokens', 0)} tokens"
        + "".join(f", {n} {reason}" for reason, n in counts.items() if reason.startswith("dropped"))
        for name, counts in report["corpora"].items()
    )
    return (
        f"<p>Objective {_text(config['objective'])}, base {_text(config['model']['path'])}, "
        f"{config['sample']['num_samples']} thoughts a chunk, engine {_text(config['sample']['engine'])}, "
        f"seed {config['seed']}. {_text(corpora)}.</p><p>Bound: importance-weighted lower bound on "
        f"log p(x | c) by {config['evaluate']['num_samples']} samples of the model's own proposal, of chunks "
        "with a finished thought; higher is better. NLL: of the raw held-out text, without markers or "
        "thoughts. Nats a token.</p>"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    columns = {
        "iteration": "iteration", "accuracy": "accuracy", "accuracy_sampled": "accuracy, sampled",
        "accuracy_direct": "accuracy, no thought", "bound": "bound", "bound_a_byte": "bound, nats a byte",
        "bound_undefined_chunks": "no bound", "nll": "NLL", "nll_a_byte": "NLL, nats a byte",
        "nll_marked": "NLL, marked", "seconds": "task-seconds",
    }  # fmt: skip
    return _html_table(list(columns.values()), [[row.get(key) for key in columns] for row in rows])


def _weights(rows: list[dict[str, Any]]) -> str:
    """What the weights of each iteration look like."""
    columns = {
        "ess_mean": "mean ESS", "largest_weight_mean": "largest weight",
        "pareto_k": "median Pareto k", "pareto_chunks": "chunks with it", "unfinished_share": "unfinished",
        "fallback_chunks": "no thought",
        "cut_prefixes": "prefixes cut",
        "length_correlation_within": "length corr.",
        "train_bound_nats_a_chunk": "bound, nats a chunk", "alpha": "alpha",
        "selection_ess_mean": "ESS selected by",
    }  # fmt: skip
    lines = []
    for row in rows:
        selection = row["selection"]
        values = {
            **selection,
            "cut_prefixes": row["cut_prefixes"],
            "pareto_k": (selection["pareto_k"] or {}).get("median"),
            "pareto_chunks": (selection["pareto_k"] or {}).get("chunks"),
        }
        lines.append([row["iteration"], *(values[key] for key in columns)])
    return _html_table(["iteration", *columns.values()], lines)


def _html_table(titles: list[str], lines: list[list[Any]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in line) + "</tr>" for line in lines)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return html.escape(str(value))


def _thoughts(row: dict[str, Any], decode: Decode) -> str:
    lines = []
    for example in row["selection"]["examples"]:
        kinds = _kinds(example)
        ends = kinds if len(kinds) <= 4 else [*kinds[:2], *kinds[-2:]]
        for kind in kinds:
            picked = any(k in example["selected"] for k in kind)
            if kind not in ends and not picked:
                continue
            parts = [example[name][kind[0]] for name in ("log_prior", "log_likelihood", "log_q")]
            numbers = [example["chunk"], len(kind), sum(example["weights"][k] for k in kind), *parts]
            cells = "".join(f"<td>{_cell(value)}</td>" for value in numbers)
            text = _text(decode(example["thoughts"][kind[0]]))
            style = ' class="picked"' if picked else ""
            lines.append(f'<tr{style}>{cells}<td class="text">{text}</td></tr>')
    titles = ("chunk", "times", "weight", "log p(z | c)", "log p(x | c, z)", "log q")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return (
        f"<h3>Thoughts of iteration {row['iteration']}</h3><p>Highest and lowest weight of some chunks; "
        "what is selected is shaded. A thought that was drawn several times has the weight of all of "
        "them. Nats; no log p where a thought did not finish.</p>"
        f'<table><tr>{head}<th class="text">thought</th></tr>{"".join(lines)}</table>'
    )


def _kinds(example: dict[str, Any]) -> list[list[int]]:
    """Samples of a chunk with the same ids belong together; the largest weight of one comes first."""
    kinds: dict[tuple[int, ...], list[int]] = {}
    for k, ids in enumerate(example["thoughts"]):
        kinds.setdefault(tuple(ids), []).append(k)
    return sorted(kinds.values(), key=lambda kind: -example["weights"][kind[0]])


def _answers(rows: list[dict[str, Any]]) -> str:
    examples = rows[-1]["examples"]
    if not examples:
        return ""
    keys = ("prefix", "thought", "answer", "suffix")
    titles = ("question", "thought", "answer", "expected")
    head = "".join(f'<th class="text">{title}</th>' for title in titles)
    rendered = ["".join(f'<td class="text">{_text(_cell(e[key]))}</td>' for key in keys) for e in examples]
    lines = "".join(f"<tr>{cells}</tr>" for cells in rendered)
    return f"<h2>Held-out answers of the last model</h2><table><tr>{head}</tr>{lines}</table>"
