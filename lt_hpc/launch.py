"""python -m lt_hpc.launch --iters T [--config FILE] [--run-dir DIR] [--dry-run] [key=value ...]

Plans a run, works out what of it is missing, and runs only that. The same command again,
after Ctrl-C, a kill or a crash, goes on to the same result.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import signal
import sys
from pathlib import Path

from lt_hpc.cluster import lock
from lt_hpc.cluster.runner import Runner, Tasks
from lt_hpc.cluster.slurm import client
from lt_hpc.config.load import config_to_yaml, demo_file, load_config
from lt_hpc.config.schema import Config
from lt_hpc.data import base_model, sources
from lt_hpc.display import Display
from lt_hpc.errors import ConfigError, Interrupted, LtError
from lt_hpc.report import output
from lt_hpc.run import estimate, state
from lt_hpc.run.plan import CORPORA, Plan, build_plan, plan_to_json
from lt_hpc.store.atomic import write_json, write_text
from lt_hpc.store.paths import RunPaths

SLURM_LOCK_SECONDS = 120
CLUSTERS = ("auto", "slurm", "local", "allocation")
NEXT = -2


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code (see lt_hpc.errors)."""
    parser = argparse.ArgumentParser(prog="python -m lt_hpc.launch", description=__doc__)
    parser.add_argument(
        "--iters",
        type=_iterations,
        default=3,
        metavar="T",
        help="EM iterations after the warm start, or 'next': the first that is not done",
    )
    parser.add_argument("--config", type=Path, default=None, help="YAML file (default: the demo)")
    parser.add_argument("--run-dir", type=Path, default=None, help="default: runs/NAME of the config")
    parser.add_argument("--profile", type=Path, default=None, help="site profile, a YAML file")
    parser.add_argument("--cluster", choices=CLUSTERS, default="auto")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, create nothing")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(arguments)
    try:
        config = load_config(options.config or demo_file(), options.overrides, options.profile)
        paths = RunPaths(options.run_dir or Path("runs") / config.name)
        plan = make_plan(config, options.iters, paths)
        cluster = _choose(options.cluster)
        if options.dry_run:
            _print_plan(plan, paths)
            return 0
        _check_engine(config)
        if cluster == "local" and options.cluster == "auto":
            _refuse_unknown_jobs(paths)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if cluster != "allocation":
            _refuse_other_jobs(paths, cluster)
        run = {"slurm": _run_on_slurm, "local": _run_locally, "allocation": _run_in_allocation}[cluster]
        with lock.hold(paths, 0 if cluster == "local" else SLURM_LOCK_SECONDS):
            if cluster == "allocation":
                plan = _claimed_plan(config, options.iters, paths)
            run(plan, paths)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except Interrupted as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except LtError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _iterations(text: str) -> int:
    return NEXT if text == "next" else int(text)


def _check_engine(config: Config) -> None:
    """Not for a dry run, which may be made where nothing will run.

    Raises:
        ConfigError: when the engine is not installed.
    """
    if config.sample.engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "sample.engine=vllm: vLLM is not installed; bash tools/setup.sh vllm, or use sample.engine=torch"
        )


def make_plan(config: Config, num_iterations: int, paths: RunPaths) -> Plan:
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
    if num_iterations != NEXT:
        return build_plan(config, num_iterations, identities)
    for iteration in itertools.count(1):
        plan = build_plan(config, iteration, identities)
        if state.pending(paths, plan):
            return plan
    raise AssertionError("unreachable")


def _print_plan(plan: Plan, paths: RunPaths) -> None:
    pending = {stage.key for stage in state.pending(paths, plan)}
    print(f"run folder: {paths.root} ({'exists' if paths.root.is_dir() else 'would be created'})")
    for stage in plan.stages:
        status = "to do" if stage.key in pending else "done"
        after = f"after {', '.join(stage.needs)}" if stage.needs else ""
        print(f"  {status:5}  {stage.key:12}  {stage.fingerprint}  {after}".rstrip())
    for line in estimate.lines(plan, paths):
        print(line)
    print(f"{len(pending)} of {len(plan.stages)} stages to do; nothing was created or submitted")


def _choose(wanted: str) -> str:
    """`slurm` or `local`; the first line printed says which and why.

    Raises:
        ConfigError: when Slurm is asked for and no controller answers.
    """
    if wanted == "allocation":
        print("cluster: this allocation (--cluster allocation)", flush=True)
        return wanted
    found, why = client.available() if wanted != "local" else (False, "")
    if wanted == "slurm" and not found:
        raise ConfigError(f"--cluster slurm: {why}; use --cluster local to run on this machine")
    chosen = "slurm" if found else "local"
    print(f"cluster: {chosen} ({why if wanted == 'auto' else f'--cluster {wanted}'})", flush=True)
    return chosen


def _pin(plan: Plan, paths: RunPaths) -> None:
    """Write down what is asked and move results of other settings out of the way. Jobs of other
    settings must be gone by now: they would go on writing."""
    write_json(paths.plan(plan.fingerprint), plan_to_json(plan))
    write_text(paths.config, config_to_yaml(plan.config))
    state.remove_spent_checkpoints(paths, list(plan.stages))
    pending = state.pending(paths, plan)
    for moved in state.move_superseded(paths, pending):
        print(f"made with other settings, moved: {moved}")
    print(f"{paths.root}: {len(plan.stages) - len(pending)} stages done, {len(pending)} to do", flush=True)


def _refuse_other_jobs(paths: RunPaths, cluster: str, own_job: str | None = None) -> None:
    """Two ways of running a run at once would do the same work twice; a chain is reconciled with.

    Raises:
        ConfigError: naming the jobs that work on it.
    """
    from lt_hpc.cluster import backend

    if not client.available()[0]:
        return
    jobs, allocations = backend.jobs_of_run(paths)
    others = [job for job in allocations if job != own_job] + ([] if cluster == "slurm" else jobs)
    if others:
        raise ConfigError(
            f"--run-dir {paths.root}: jobs in the queue work on this run ({', '.join(others)}); wait for "
            "them, or scancel them"
        )


def _refuse_unknown_jobs(paths: RunPaths) -> None:
    """A controller that does not answer just now must not have this machine do what jobs are doing.

    Raises:
        ConfigError: when jobs of this run may be in its queue.
    """
    from lt_hpc.cluster import backend

    if backend.submitted(paths):
        raise ConfigError(
            f"--run-dir {paths.root}: it was submitted to Slurm, and no controller answers now; try again "
            "when one does, or use --cluster local when none of its jobs is left"
        )


def _run_locally(plan: Plan, paths: RunPaths) -> None:
    from lt_hpc.cluster.local import LocalTasks

    _run_here(plan, paths, LocalTasks(plan, paths))


def _claimed_plan(config: Config, iterations: int, paths: RunPaths) -> Plan:
    """The plan of this allocation's job, which a requeue does not change. Under the lock."""
    from lt_hpc.cluster import allocation

    job = allocation.own_job(os.environ)
    _refuse_other_jobs(paths, "allocation", job)
    earlier = allocation.iterations_of(paths, job)
    plan = make_plan(config, iterations if earlier is None else earlier, paths)
    if earlier is None:
        allocation.claim(paths, job, max(stage.iteration for stage in plan.stages))
    return plan


def _run_in_allocation(plan: Plan, paths: RunPaths) -> None:
    """One job does it all; stopped by a signal, it puts itself back into the queue."""
    from lt_hpc.cluster import allocation

    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    signal.signal(signal.SIGUSR2, signal.default_int_handler)
    _warn(plan, paths)
    tasks = allocation.AllocationTasks(plan, paths, os.environ)
    try:
        _run_here(plan, paths, tasks)
    except (Interrupted, KeyboardInterrupt) as error:  # the latter while no task was running
        allocation.requeue(allocation.own_job(os.environ))
        raise Interrupted(str(error) or "stopped; the same command goes on from here") from error


def _warn(plan: Plan, paths: RunPaths) -> None:
    from lt_hpc.cluster import backend

    for warning in state.slow_checkpoints(paths, plan, *backend.notice(plan)):
        print(f"warning: {warning}", flush=True)


def _run_here(plan: Plan, paths: RunPaths, tasks: Tasks) -> None:
    _pin(plan, paths)
    with Display(plan, paths) as display:
        Runner(plan, paths, tasks, display).run()
    output.write(plan, paths)
    output.print_table(plan, paths)


def _run_on_slurm(plan: Plan, paths: RunPaths) -> None:
    from lt_hpc.cluster import backend

    for line in backend.cancel_superseded(plan, paths):
        print(f"  {line}")
    _pin(plan, paths)
    _warn(plan, paths)
    for line in backend.launch(plan, paths).lines:
        print(f"  {line}")
    print(f"watch: squeue --me; python -m lt_hpc.status {paths.root}; logs in {paths.slurm}")
    if not state.pending(paths, plan):
        output.write(plan, paths)
        output.print_table(plan, paths)


if __name__ == "__main__":
    sys.exit(main())
