"""python -m lt_hpc.experiment NAME [--size SIZE] [--seeds 0 1 2] [--arms ARM ...] [--show]

Runs every arm of an experiment of configs/experiments (or of a YAML file) with every seed, each as an
ordinary run, and prints what they say together. The same command again goes on, and shows what is done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lt_hpc.arguments import Parser
from lt_hpc.cluster import schedulers
from lt_hpc.errors import ConfigError, StageError, guarded
from lt_hpc.experiments import definition, figure, running, tables
from lt_hpc.experiments.arms import OUT, ArmRun, plan_all
from lt_hpc.experiments.definition import Definition
from lt_hpc.experiments.results import gather
from lt_hpc.experiments.running import Options
from lt_hpc.store.atomic import write_json


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parser().parse_args(arguments)
    experiment = definition.read(options.name, options.size, options.arms)
    seeds = tuple(dict.fromkeys(options.seeds or experiment.seeds))
    name, why = schedulers.choose(options.cluster)
    if options.parallel > 1 and name == "slurm":
        raise ConfigError(
            f"--parallel {options.parallel}: on Slurm all arms are in the queue at once; leave it out"
        )
    runs = plan_all(experiment, seeds, options.out, options.profile)
    failures: list[str] = []
    if not options.show:
        print(f"{len(runs)} runs in {_folder(runs)}; cluster: {name} ({why})", flush=True)
        start = running.submit if name == "slurm" else running.run_here
        failures = start(runs, Options(options.parallel, _launch_arguments(options)))
    show(experiment, runs)
    if failures:
        raise StageError(
            f"{len(failures)} of {len(runs)} runs failed, first: {failures[0]}; the same command goes on"
        )
    return 0


def show(experiment: Definition, runs: Sequence[ArmRun]) -> None:
    """Print the tables of what is done; write results.json and results.svg where anything is."""
    results = gather(experiment, runs)
    print(*tables.lines(results), sep="\n", flush=True)
    for run in (run for run in runs if str(run) in results.missing and run.paths.last_plan.exists()):
        print(f"watch: lt-hpc status {run.paths.root}")
    if results.reports:
        write_json(_folder(runs) / "results.json", results.to_json())
        figure.write(results, _folder(runs) / "results.svg")
        print(f"\nresults: {_folder(runs) / 'results.json'}, {_folder(runs) / 'results.svg'}", flush=True)


def _folder(runs: Sequence[ArmRun]) -> Path:
    """Of the experiment: OUT/NAME-SIZE."""
    return runs[0].paths.root.parents[1]


def _launch_arguments(options: argparse.Namespace) -> tuple[str, ...]:
    profile = ["--profile", str(options.profile)] if options.profile else []
    shared = ["--allow-shared"] if options.allow_shared else []
    return ("--cluster", options.cluster, *profile, *shared)


def parser() -> Parser:
    """Of the command line."""
    made = Parser(
        "python -m lt_hpc.experiment", __doc__, epilog=f"experiments: {', '.join(definition.names())}"
    )
    made.add_argument("name", help="of configs/experiments, or a path to a .yaml file")
    made.add_argument("--size", default=None, help="default: the first that the experiment has")
    made.add_argument("--seeds", type=_seed, nargs="+", metavar="SEED", help="default: the experiment's own")
    made.add_argument("--arms", nargs="+", metavar="ARM", help="default: all")
    made.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    made.add_argument("--parallel", type=_count, default=1, help="runs at once on this machine")
    made.add_argument("--cluster", choices=("auto", "slurm", "local"), default="auto")
    made.add_argument("--profile", type=Path, default=None, help="site profile, a YAML file")
    made.add_argument(
        "--allow-shared", action="store_true", help="though others can write into the run folders"
    )
    made.add_argument("--show", action="store_true", help="start nothing, show what is done")
    return made


def _seed(text: str) -> int:
    return _number(text, 0)


def _count(text: str) -> int:
    return _number(text, 1)


def _number(text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text[:80]!r}: must be a whole number of at least {least}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
