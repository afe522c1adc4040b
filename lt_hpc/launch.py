"""python -m lt_hpc.launch --iters T [--config FILE] [--run-dir DIR] [--dry-run] [key=value ...]

Plans a run, works out what of it is missing, and runs only that. The same command again,
after Ctrl-C, a kill or a crash, goes on to the same result.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lt_hpc import config as configuration
from lt_hpc import report
from lt_hpc.cluster import plan as planning
from lt_hpc.cluster import state
from lt_hpc.cluster.plan import CORPORA, Plan
from lt_hpc.config import Config
from lt_hpc.data import base_model, sources
from lt_hpc.display import Display
from lt_hpc.errors import ConfigError, LtError
from lt_hpc.store.atomic import write_json, write_text
from lt_hpc.store.paths import RunPaths


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code (see lt_hpc.errors)."""
    parser = argparse.ArgumentParser(prog="python -m lt_hpc.launch", description=__doc__)
    parser.add_argument("--iters", type=int, default=3, help="EM iterations after the warm start")
    parser.add_argument("--config", type=Path, default=None, help="YAML file (default: the demo)")
    parser.add_argument("--run-dir", type=Path, default=None, help="default: runs/NAME of the config")
    parser.add_argument("--cluster", choices=("auto", "local"), default="auto")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, create nothing")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(arguments)
    try:
        config = configuration.load(options.config or configuration.demo_file(), options.overrides)
        plan = make_plan(config, options.iters)
        paths = RunPaths(options.run_dir or Path("runs") / config.name)
        if options.dry_run:
            _print_plan(plan, paths)
            return 0
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with _lock(paths):
            _launch(plan, paths)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except LtError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def make_plan(config: Config, num_iterations: int) -> Plan:
    """The plan of a checked configuration, its sources looked at.

    Raises:
        ConfigError: naming the field, before anything is created.
    """
    base_model.check(config.model)
    mode = config.chunking.mode
    for name in CORPORA:
        sources.check(getattr(config, name), name, mode, needs_thought=name == "warm")
    identities = {name: sources.identity(getattr(config, name)) for name in CORPORA}
    identities["model"] = base_model.identity(config.model)
    return planning.make(config, num_iterations, identities)


def _print_plan(plan: Plan, paths: RunPaths) -> None:
    pending = {stage.key for stage in state.pending(paths, plan)}
    print(f"run folder: {paths.root} ({'exists' if paths.root.is_dir() else 'would be created'})")
    for stage in plan.stages:
        status = "to do" if stage.key in pending else "done"
        after = f"after {', '.join(stage.needs)}" if stage.needs else ""
        print(f"  {status:5}  {stage.key:12}  {stage.fingerprint}  {after}".rstrip())
    print(f"{len(pending)} of {len(plan.stages)} stages to do; nothing was created or submitted")


def _launch(plan: Plan, paths: RunPaths) -> None:
    from lt_hpc.cluster.local import LocalCluster

    name = plan.fingerprint
    write_json(paths.plan(name), planning.to_json(plan))
    write_text(paths.config, configuration.to_yaml(plan.config))
    pending = state.pending(paths, plan)
    for moved in state.move_superseded(paths, pending):
        print(f"made with other settings, moved: {moved}")
    print(f"{paths.root}: {len(plan.stages) - len(pending)} stages done, {len(pending)} to do", flush=True)
    with Display(plan, paths) as display:
        LocalCluster(plan, name, paths, display).run()
    report.write(plan, paths)
    report.print_table(plan, paths)


@contextmanager
def _lock(paths: RunPaths) -> Iterator[None]:
    """Hold the run folder against a second launcher; the kernel frees it when this one dies.

    Raises:
        ConfigError: naming who holds it.
    """
    paths.root.mkdir(parents=True, exist_ok=True)
    with paths.lock.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise ConfigError(
                f"--run-dir {paths.root}: another launch is running ({stream.read().strip()})"
            ) from error
        stream.truncate(0)
        stream.write(f"host {socket.gethostname()}, process {os.getpid()}\n")
        stream.flush()
        yield


if __name__ == "__main__":
    sys.exit(main())
