"""python tools/routes_thoughts.py RUN [RUN ...]

Of runs on the task of configs/routes.yaml: what their selected thoughts are, by iteration. The share that is
right (of several thoughts of a chunk by their weights in the loss), and of the steps of right ones the share
that is stated twice, with its 95% interval over thoughts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from tokenizers import Tokenizer

from lt_hpc.data import routes_task
from lt_hpc.latent import intervals
from lt_hpc.report.columns import Shown
from lt_hpc.store import tables
from lt_hpc.store.paths import RunPaths


def thoughts_of(paths: RunPaths, iteration: int) -> tuple[float, Shown]:
    """Of the selected thoughts of an iteration: the share of right ones, and the share of their steps that
    is stated twice."""
    settings = yaml.safe_load(paths.config.read_text())["corpus"]
    questions = [
        problem.question for problem in routes_task.problems(settings["seed"], settings["num_documents"])
    ]
    decode = Tokenizer.from_file(str(paths.base / "tokenizer.json")).decode
    weights, twice, steps = [], [], []
    for path in sorted(paths.selected(iteration).glob("shard-*.parquet")):
        for row in tables.read(path, tables.SELECTED).to_pylist():
            question = questions[row["chunk"]]
            for thought, weight in zip(row["thoughts"], row["loss_weights"], strict=True):
                found = routes_task.stated_twice(question, decode(thought))
                weights.append(weight)
                steps.append(0.0 if found is None else weight * (len(question.split()) - 1))
                twice.append(weight * (found or 0))
    right = np.array(steps) > 0
    stated = Shown(None, None)
    if right.any():
        stated = Shown(*intervals.ratio(np.array(twice)[right], np.array(steps)[right]))
    return float(np.array(weights)[right].sum() / sum(weights)), stated


def lines(run: Path) -> Iterator[str]:
    """Markdown: a line per iteration that has selected thoughts."""
    for folder in sorted(run.glob("iter-*/selected")):
        iteration = int(folder.parent.name.removeprefix("iter-"))
        right, stated = thoughts_of(RunPaths(run), iteration)
        yield f"| {run} | {iteration} | {right:.3f} | {stated} |"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", type=Path, nargs="+")
    options = parser.parse_args()
    print(
        f"| run | iteration | right | stated twice (in the source {routes_task.TWICE}) |\n|---|---|---|---|"
    )
    for run in options.run_dir:
        print(*lines(run), sep="\n")


if __name__ == "__main__":
    main()
