"""lt-hpc rehearse [--config FILE] [--profile FILE] [--cluster auto|slurm|local] [key=value ...]

Runs a small copy of a configuration twice where the real run is to go: once undisturbed, once with each
stage preempted, and compares what they made. The copy has fewer documents, steps and samples and one
iteration; model, engine, ZeRO stage, dtypes, nodes and ranks stay. A field that is given as key=value
stays too. Exit code 0: green. 1: a stage was not preempted. 4: a run failed, or outputs are not those
of the undisturbed run. The same command again goes on, and shows what is done.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from lt_hpc.arguments import Parser
from lt_hpc.cluster import lock, schedulers
from lt_hpc.cluster.slurm import client
from lt_hpc.config.load import config_to_yaml, demo_file, load_config
from lt_hpc.config.schema import Config
from lt_hpc.config.text import parse_override
from lt_hpc.errors import guarded
from lt_hpc.launch import make_plan, run_folder
from lt_hpc.rehearse import compare, ledger, machines, rows
from lt_hpc.rehearse.machines import Here, Machine, OnSlurm
from lt_hpc.rehearse.rows import Rehearsal
from lt_hpc.rehearse.running import POLL_SECONDS, Disturbance
from lt_hpc.rehearse.small import small_copy
from lt_hpc.run import events, progress, state
from lt_hpc.run.overview import stops_of
from lt_hpc.run.plan import Plan
from lt_hpc.store.atomic import write_text
from lt_hpc.store.paths import RunPaths

UNDISTURBED, PREEMPTED = "undisturbed", "preempted"
"""The run folders of a rehearsal."""


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    started = time.monotonic()
    options = parser().parse_intermixed_args(arguments)
    own = load_config(options.config or demo_file(), options.overrides, options.profile)
    name, why = schedulers.choose(options.cluster)
    named = [".".join(parse_override(one)[0]) for one in options.overrides]
    config, changes = small_copy(own, named, name == "slurm")
    folder = options.out or Path("runs") / f"{own.name}-rehearsal"
    plan = make_plan(config, _iterations(config), RunPaths(folder / PREEMPTED))
    simulated = (
        machines.simulated_at(client.site(nodes=False), config)
        if name == "slurm"
        else [machines.simulated_here()]
    )

    def say(line: str) -> None:
        print(line, file=sys.stderr if options.json else sys.stdout, flush=True)

    say(f"{folder}: a small copy of {own.name}, undisturbed and preempted; cluster: {name} ({why})")
    for line in (*simulated, "smaller in the copy, all else is yours:", *(f"  {one}" for one in changes)):
        say(line)
    if options.dry_run:
        say(f"stages to be preempted: {', '.join(stage.key for stage in plan.stages)}")
        return 0
    with lock.hold(RunPaths(folder)):
        write_text(folder / "config.yaml", config_to_yaml(config))
        undisturbed, disturbed = (
            _machine(options, folder, one, plan, name == "slurm") for one in (UNDISTURBED, PREEMPTED)
        )
        _run(undisturbed, Disturbance(disturbed, plan, say))
        found = Rehearsal(
            folder=str(folder), cluster=name, simulated=simulated, changes=changes,
            rows=_rows(plan, undisturbed.paths, disturbed.paths),
            may_differ=compare.bytes_may_differ(plan, undisturbed.paths, disturbed.paths),
            stops=stops_of(events.read(undisturbed.paths)).total(),
            seconds=time.monotonic() - started,
        )  # fmt: skip
    if options.json:
        print(json.dumps(rows.data(found), indent=1))
    else:
        print(*rows.text(found), sep="\n")
    return rows.EXIT_CODES[found.light]


def parser() -> Parser:
    """Of the command line."""
    made = Parser("lt-hpc rehearse", __doc__)
    made.add_argument("--config", type=Path, default=None, help="YAML file (default: the demo)")
    made.add_argument("--profile", type=Path, default=None, help="site profile, a YAML file")
    made.add_argument("--out", type=run_folder, default=None, help="default: runs/NAME-rehearsal")
    made.add_argument("--cluster", choices=("auto", "slurm", "local"), default="auto")
    made.add_argument("--allow-shared", action="store_true", help="as for launch")
    made.add_argument("--dry-run", action="store_true", help="say what the copy is, start nothing")
    made.add_argument("--json", action="store_true", help="what was found, for programs")
    made.add_argument("overrides", nargs="*", metavar="key=value")
    return made


def _iterations(config: Config) -> int:
    return 0 if config.objective == "none" else 1


def _machine(options: argparse.Namespace, folder: Path, run: str, plan: Plan, on_slurm: bool) -> Machine:
    paths, log = RunPaths(folder / run), folder / f"{run}.log"
    launch = [
        "--config", str(folder / "config.yaml"), "--iters", str(_iterations(plan.config)),
        "--run-dir", str(paths.root), "--cluster", "slurm" if on_slurm else "local",
        *(["--allow-shared"] if options.allow_shared else []),
    ]  # fmt: skip
    return OnSlurm(paths, plan, launch, log) if on_slurm else Here(paths, launch, log)


def _run(undisturbed: Machine, disturbance: Disturbance) -> None:
    """Both to their ends, beside each other where that is possible."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.default_int_handler)

    def pending() -> bool:
        return not state.Look(undisturbed.paths).complete(disturbance.plan)

    try:
        if pending():
            undisturbed.start()
            while not undisturbed.beside and undisturbed.working():
                time.sleep(POLL_SECONDS)
        disturbance.run()
        while pending() and undisturbed.working():
            time.sleep(POLL_SECONDS)
    finally:
        undisturbed.close()
        disturbance.machine.close()


def _rows(plan: Plan, undisturbed: RunPaths, disturbed: RunPaths) -> list[rows.Row]:
    happened = ledger.of_plan(events.read(disturbed), plan.fingerprint)
    said = {stage.key: progress.of_tasks(disturbed, stage) for stage in plan.stages}
    outputs = compare.compare(plan, undisturbed, disturbed)
    return rows.rows(plan, ledger.preempted(plan, happened), said, outputs)


if __name__ == "__main__":
    sys.exit(main())
