"""python tools/demo_trials.py --seeds 0 1 2 [--samples 4 16] [--out runs/trials]

The paper's claims on the demo: EM with a small and a large K, against training on the raw text
and against the warm start's labelled documents alone, all from the same base and with the same
number of training tokens. Seeds change the documents, the labelled subset and every draw; the
held-out documents stay. Run again, it goes on. Writes trials.json and trials.svg.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

SHARED = ("base", "corpus", "warm", "heldout", "iter-00")
Rows = list[dict[str, Any]]


def run_one(out: Path, seed: int, name: str, iterations: int, settings: list[str]) -> Rows:
    """Launch one run (its warm start is taken over from an earlier one of the seed); its rows."""
    run = out / f"seed{seed}-{name}"
    donors = [
        path for path in sorted(out.glob(f"seed{seed}-*")) if (path / "iter-00/eval/metrics.json").exists()
    ]
    if donors and not run.exists():
        for folder in SHARED:
            shutil.copytree(donors[0] / folder, run / folder)
    command = [
        sys.executable, "-m", "lt_hpc.launch", "--cluster", "local", "--iters", str(iterations),
        "--run-dir", str(run), f"seed={seed}", f"corpus.seed={100 + seed}", f"warm.seed={200 + seed}",
        *settings,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return list(json.loads((run / "report.json").read_text())["iterations"])


def table(results: dict[str, dict[int, Rows]]) -> str:
    """Markdown: a line per setting, accuracy and bound by iteration as median (lowest to highest)."""
    lines = ["| setting | measure | it 0 | it 1 | it 2 | it 3 |", "|---|---|---|---|---|---|"]
    for name, by_seed in results.items():
        for measure in ("accuracy", "bound", "ess_mean"):
            cells = []
            for iteration in range(4):
                values = [
                    row[measure]
                    for rows in by_seed.values()
                    for row in rows
                    if row["iteration"] == iteration and row[measure] is not None
                ]
                cells.append(
                    f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
                    if values
                    else "–"
                )
            lines.append(f"| {name} | {measure} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(results: dict[str, dict[int, Rows]], path: Path) -> None:
    """Accuracy and bound by iteration, a thin line per seed."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.5))
    for axis, measure in zip(axes, ("accuracy", "bound"), strict=True):
        for index, (name, by_seed) in enumerate(results.items()):
            for number, rows in enumerate(by_seed.values()):
                points = [(row["iteration"], row[measure]) for row in rows if row[measure] is not None]
                label = name if number == 0 else None
                axis.plot(*zip(*points, strict=True), color=f"C{index}", marker="o", ms=3, lw=1, label=label)
        unit = ", nats per token" if measure == "bound" else ""
        axis.set(title=f"held-out {measure}{unit}", xlabel="iteration", xticks=range(4))
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, nargs="+", default=[4, 16], help="values of K")
    parser.add_argument("--out", type=Path, default=Path("runs/trials"))
    options = parser.parse_args()
    settings = {f"EM, K={k}": (f"k{k}", 3, [f"sample.num_samples={k}"]) for k in options.samples}
    settings["raw text, same tokens"] = ("raw", 1, ["objective=raw"])
    settings["labelled documents only, same tokens"] = ("warm", 1, ["objective=warm"])
    results: dict[str, dict[int, Rows]] = {name: {} for name in settings}
    for seed in options.seeds:
        for name, (short, iterations, overrides) in settings.items():
            results[name][seed] = run_one(options.out, seed, short, iterations, overrides)
    (options.out / "trials.json").write_text(json.dumps(results, indent=1))
    plot(results, options.out / "trials.svg")
    print(table(results))


if __name__ == "__main__":
    main()
