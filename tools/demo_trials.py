"""python tools/demo_trials.py [--task demo routes] [--seeds 0 1 2] [--arms ...] [--parallel 2] [--out DIR]

What selects thoughts, how many there are, and the controls, on the two built-in tasks. Every arm starts from
the same warm start of its seed, and each M-step takes the same number of optimizer steps; a seed moves the
documents, the labelled subset, the held-out documents and every draw. Run again, it goes on. Writes
trials.json, trials-TASK.svg, and prints tables: figures over seeds, and differences paired over documents.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tokenizers import Tokenizer

from lt_hpc.data import routes_task
from lt_hpc.latent import intervals
from lt_hpc.latent.intervals import t_quantile
from lt_hpc.report.changes import compare
from lt_hpc.report.collect import measured_of
from lt_hpc.store import tables
from lt_hpc.store.paths import RunPaths

ITERATIONS = 3
SHARED = ("base", "corpus", "warm", "heldout", "iter-00")
ARMS = {
    "K=1": ["sample.num_samples=1"],
    **{f"importance, K={k}": [f"sample.num_samples={k}"] for k in (4, 16)},
    **{f"argmax, K={k}": [f"sample.num_samples={k}", "merge.method=argmax"] for k in (4, 16)},
    **{f"uniform, K={k}": [f"sample.num_samples={k}", "merge.method=uniform"] for k in (4, 16)},
    **{f"half from the prior, K={k}": [f"sample.num_samples={k}", "sample.prior_share=0.5"] for k in (4, 16)},
    **{f"weighted, K={k}": [f"sample.num_samples={k}", "merge.select=weighted"] for k in (4, 16)},
    **{
        f"{rule}, cold, K=4": ["sample.num_samples=4", "sample.temperature=0.7", f"merge.method={method}"]
        for rule, method in (("importance", "multinomial"), ("argmax", "argmax"), ("uniform", "uniform"))
    },
    "raw text, repeated": ["objective=raw"],
    "raw text, fresh": ["objective=raw", f"train.steps={ITERATIONS * 200}", "corpus.num_documents=110000"],
    "labelled documents only": ["objective=warm"],
}
"""Cold: thoughts are drawn at a temperature of 0.7, which weights alone make up for. An M-step starts from
the base, so the last model of an arm with thoughts has taken 200 steps, and so have the controls; the fresh
one takes those of all iterations, on documents of which none comes twice."""
CONTROLS = [arm for arm in ARMS if arm.startswith(("raw", "labelled"))]
PAIRS = [
    *(
        (f"importance, K={k}", other)
        for k in (4, 16)
        for other in ("K=1", f"argmax, K={k}", f"uniform, K={k}")
    ),
    ("importance, K=16", "importance, K=4"),
    *(
        (f"{name}, K={k}", f"importance, K={k}")
        for k in (4, 16)
        for name in ("half from the prior", "weighted")
    ),
    *(("importance, cold, K=4", f"{other}, cold, K=4") for other in ("argmax", "uniform")),
    *(("importance, K=4", control) for control in CONTROLS),
]
"""Of the last models: the first less the second."""
MEASURES = ("accuracy", "log_likelihood", "bound", "nll")
Rows = list[dict[str, Any]]


def short(arm: str) -> str:
    """Of a folder's name."""
    return "".join(c if c.isalnum() else "-" for c in arm)


def run_one(out: Path, task: str, seed: int, arm: str, alone: bool) -> Path:
    """Launch one run, unless it is done; its warm start is taken over from another one of the seed."""
    run = out / f"{task}-{seed}" / short(arm)
    iterations = 1 if arm in CONTROLS else ITERATIONS
    warm = out / f"{task}-{seed}" / "warm-start"
    if arm != "warm-start" and not run.exists():
        for folder in (name for name in SHARED if name != "corpus" or "fresh" not in arm):
            shutil.copytree(warm / folder, run / folder)
    command = [
        sys.executable, "-m", "lt_hpc.launch", "--cluster", "local", "--config", f"configs/{task}.yaml",
        "--iters", str(iterations if arm != "warm-start" else 0), "--run-dir", str(run), f"seed={seed}",
        f"corpus.seed={100 + seed}", f"warm.seed={200 + seed}", f"heldout.seed={300 + seed}",
        "evaluate.estimate_chunks=150", "evaluate.estimate_samples=64", *ARMS.get(arm, []),
        *([] if alone else ["local.processes=1", "local.train_ranks=1"]),
    ]  # fmt: skip
    with (out / f"{task}-{seed}-{short(arm)}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    return run


def rows_of(run: Path, task: str) -> Rows:
    """The iterations of a report, without what is long; of the routes also what was selected."""
    found: Rows = json.loads((run / "report.json").read_text())["iterations"]
    kept = (*MEASURES, "intervals", "iteration", "tokens", "compute", "seconds", "bound_gap", "change")
    selected = ("ess_mean", "effective_different_mean", "different_mean", "pareto_k_pooled", "cut_share")
    return [
        {name: row[name] for name in kept}
        | {name: row["selection"].get(name) for name in selected}
        | (thoughts_of(run, row["iteration"]) if task == "routes" and row["selection"] else {})
        for row in found
    ]


def thoughts_of(run: Path, iteration: int) -> dict[str, Any]:
    """Of the selected thoughts of the routes, those with several by their weights in the loss: the share of
    right ones, and of the steps of these the share that is stated twice."""
    settings = yaml.safe_load((run / "config.yaml").read_text())["corpus"]
    questions = [
        problem.question for problem in routes_task.problems(settings["seed"], settings["num_documents"])
    ]
    decode = Tokenizer.from_file(str(run / "base" / "tokenizer.json")).decode
    weights, twice, steps = [], [], []
    for path in sorted((run / f"iter-{iteration:02}" / "selected").glob("shard-*.parquet")):
        for row in tables.read(path, tables.SELECTED).to_pylist():
            question = questions[row["chunk"]]
            for thought, weight in zip(row["thoughts"], row["loss_weights"], strict=True):
                found = routes_task.stated_twice(question, decode(thought))
                weights.append(weight)
                steps.append(0.0 if found is None else weight * (len(question.split()) - 1))
                twice.append(weight * (found or 0))
    right = np.array(steps) > 0
    share, interval = intervals.ratio(np.array(twice)[right], np.array(steps)[right])
    return {
        "right": float(np.array(weights)[right].sum() / sum(weights)),
        "twice": share,
        "twice_interval": interval,
    }


def paired(out: Path, task: str, seed: int, first: str, second: str) -> dict[str, Any] | None:
    """The last model of one arm less that of another."""
    ends = [last(RunPaths(out / f"{task}-{seed}" / short(arm))) for arm in (second, first)]
    if ends[0] is None or ends[1] is None:
        return None
    change = compare(ends[0], ends[1])
    return {
        "verdict": change.verdict,
        **{
            name: {"value": getattr(change.values, name), "interval": getattr(change.intervals, name)}
            for name in MEASURES
        },
    }


def last(paths: RunPaths) -> Any:
    """What the last evaluation of a run measured, or None."""
    numbers = (number for number in range(ITERATIONS, 0, -1) if paths.evaluation(number).exists())
    number = next(numbers, None)
    return None if number is None else measured_of(paths, number)


def less(results: dict[str, dict[str, Rows]], first: str, second: str, seed: str, name: str) -> float | None:
    """A figure of the last iteration of one arm less that of another."""
    one, other = (results[arm][seed][-1].get(name) for arm in (first, second))
    return None if one is None or other is None else one - other


def spread(values: list[float]) -> str:
    """Mean over seeds with its t interval; the values themselves where they are fewer than three."""
    mean = statistics.mean(values)
    if len(values) < 3:
        return ", ".join(f"{value:+.3f}" for value in values)
    half = t_quantile(0.975, len(values) - 1) * statistics.stdev(values) / sqrt(len(values))
    return f"{mean:+.3f} ± {half:.3f} ({min(values):+.3f} to {max(values):+.3f})"


def figures(results: dict[str, dict[str, Rows]]) -> Iterator[str]:
    """Markdown: a line per arm, the median over seeds (lowest to highest) of its last model and of what that
    was trained on."""
    shown = {
        "accuracy": "accuracy",
        "log_likelihood": "log p(x given c)",
        "bound": "bound",
        "effective_different_mean": "effective thoughts",
        "right": "right",
        "twice": "stated twice",
    }
    known = {
        name: title
        for name, title in shown.items()
        if any(
            row.get(name) is not None
            for by_seed in results.values()
            for rows in by_seed.values()
            for row in rows
        )
    }
    yield f"| arm | accuracy by iteration | {' | '.join(f'{title}, last' for title in known.values())} |"
    yield "|---" * (2 + len(known)) + "|"
    for arm, by_seed in results.items():
        ends = max(len(rows) for rows in by_seed.values())
        course = [
            statistics.median(rows[number]["accuracy"] for rows in by_seed.values() if len(rows) == ends)
            for number in range(ends)
        ]
        cells = []
        for name in known:
            values = [rows[-1].get(name) for rows in by_seed.values()]
            there = [value for value in values if value is not None]
            cells.append(
                f"{statistics.median(there):.3f} ({min(there):.3f} to {max(there):.3f})" if there else "–"
            )
        yield f"| {arm} | {', '.join(f'{value:.2f}' for value in course)} | {' | '.join(cells)} |"


def differences(pairs: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Markdown: a line per pair of arms, differences of the last models over seeds, and the verdicts."""
    yield "| first less second | log p(x given c) | bound | accuracy | stated twice | verdicts by seed |"
    yield "|---|---|---|---|---|---|"
    for name, by_seed in pairs.items():
        cells = []
        for measure in ("log_likelihood", "bound", "accuracy", "twice"):
            values = [one[measure]["value"] for one in by_seed.values()]
            cells.append(spread(values) if None not in values else "–")
        verdicts = ", ".join(one["verdict"] for one in by_seed.values())
        yield f"| {name} | {' | '.join(cells)} | {verdicts} |"


PANELS = {
    "accuracy": "held-out accuracy",
    "log_likelihood": "held-out log p(x | c), nats per token",
    "twice": "steps stated twice in selected right thoughts",
}


def plot(results: dict[str, dict[str, Rows]], path: Path) -> None:
    """Measures by iteration, a thin line per seed. The axes are those of the arms with thoughts; an arm
    outside of them is named at the edge."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    by_arm = {arm: [row for rows in by_seed.values() for row in rows] for arm, by_seed in results.items()}
    shown = [name for name in PANELS if any(row.get(name) for rows in by_arm.values() for row in rows)]
    figure, axes = pyplot.subplots(1, len(shown), figsize=(1 + 4.5 * len(shown), 4))
    for axis, measure in zip(axes, shown, strict=True):
        inside = [
            row[measure] for arm in by_arm if arm not in CONTROLS for row in by_arm[arm] if row.get(measure)
        ]
        margin = 0.05 * (max(inside) - min(inside))
        axis.set_ylim(min(inside) - margin, max(inside) + margin)
        for index, (arm, by_seed) in enumerate(results.items()):
            style = {"color": f"C{index % 10}", "ls": "--" if index > 9 else "-", "label": arm}
            for rows in by_seed.values():
                points = [(row["iteration"], row[measure]) for row in rows if row.get(measure) is not None]
                axis.plot(*zip(*points, strict=True) if points else ([], []), lw=1, marker="o", ms=3, **style)
                style["label"] = None
            ends = [rows[-1].get(measure) for rows in by_seed.values()]
            if None not in ends and max(ends) < min(inside) - margin:
                place = (1, min(inside) - margin * (1 - CONTROLS.index(arm)))
                axis.annotate(f"{arm}: {statistics.median(ends):.2f}", place, fontsize=7, va="bottom")
        if measure == "twice":
            axis.axhline(routes_task.TWICE, color="grey", lw=1)
            axis.annotate("the source", (1, routes_task.TWICE), fontsize=7, va="bottom")
        axis.set(title=PANELS[measure], xlabel="iteration", xticks=range(ITERATIONS + 1))
        axis.grid(alpha=0.3)
    axes[-1].legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def show(out: Path, task: str, seeds: list[int], arms: list[str]) -> dict[str, Any]:
    """Tables and figure of a task; what they are made from."""
    results: dict[str, dict[str, Rows]] = {}
    for arm in arms:
        runs = {str(seed): out / f"{task}-{seed}" / short(arm) for seed in seeds}
        results[arm] = {
            seed: rows_of(run, task) for seed, run in runs.items() if (run / "report.json").exists()
        }
    results = {arm: by_seed for arm, by_seed in results.items() if by_seed}
    pairs: dict[str, dict[str, Any]] = {}
    for first, second in (pair for pair in PAIRS if {*pair} <= {*results}):
        found = {str(seed): paired(out, task, seed, first, second) for seed in seeds}
        known = {
            seed: one | {"twice": {"value": less(results, first, second, seed, "twice")}}
            for seed, one in found.items()
            if one is not None
        }
        if known:
            pairs[f"{first} – {second}"] = known
    print(f"## {task}, seeds {seeds}\n", *figures(results), "", *differences(pairs), "", sep="\n")
    plot(results, out / f"trials-{task}.svg")
    return {"results": results, "pairs": pairs}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", nargs="+", default=["demo", "routes"], choices=["demo", "routes"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--parallel", type=int, default=1, help="runs at once, each with one process")
    parser.add_argument("--show", action="store_true", help="start nothing, show what is done")
    parser.add_argument("--out", type=Path, default=Path("runs/trials"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    alone = options.parallel == 1
    todo = [] if options.show else [(seed, task) for seed in options.seeds for task in options.task]
    for seed, task in todo:
        run_one(options.out, task, seed, "warm-start", alone)
        with ThreadPoolExecutor(options.parallel) as pool:
            list(pool.map(lambda arm: run_one(options.out, task, seed, arm, alone), options.arms))  # noqa: B023
    found = {task: show(options.out, task, options.seeds, options.arms) for task in options.task}
    (options.out / "trials.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
