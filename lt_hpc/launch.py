"""python -m lt_hpc.launch --iters T [--config FILE] [--run-dir DIR] [--dry-run] [key=value ...]

Plans a run, works out what of it is missing, and runs only that. The same command again,
after Ctrl-C, a kill or a crash, resumes and ends with the same result.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lt_hpc import dry_run, job
from lt_hpc.arguments import Parser
from lt_hpc.benchmarks import load as benchmarks
from lt_hpc.cluster import lock, schedulers, shared
from lt_hpc.cluster.heal import heal
from lt_hpc.cluster.names import run_id
from lt_hpc.cluster.reconcile import cancel_superseded, find_jobs, reconcile
from lt_hpc.cluster.scheduler import Scheduler
from lt_hpc.config.checks import missing_engine, missing_gpus, slow_jobs
from lt_hpc.config.load import beaten, config_to_yaml, demo_file, load_config
from lt_hpc.config.schema import Config
from lt_hpc.data import base_model, sources
from lt_hpc.display import Display
from lt_hpc.errors import ConfigError, Interrupted, StageError, guarded
from lt_hpc.report import curves, output
from lt_hpc.report.collect import collect
from lt_hpc.run import causes, events, state
from lt_hpc.run.build import build_plan
from lt_hpc.run.events import Claim, Launch, described
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.atomic import clean_temporaries, write_text
from lt_hpc.store.paths import RunPaths
from lt_hpc.teachers import load as teachers

MOST_ITERATIONS = 1000


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code (see lt_hpc.errors)."""
    launch(parser().parse_intermixed_args(arguments))
    return 0


def parser() -> Parser:
    """Of the command line."""
    made = Parser("python -m lt_hpc.launch", __doc__)
    made.add_argument(
        "--iters",
        type=iterations,
        default=3,
        metavar="T",
        help="EM iterations after the warm start, or 'next': the first that is not done",
    )
    add_options(made)
    return made


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where a run comes from and where it goes."""
    parser.add_argument(
        "--config", type=Path, default=None, help="YAML file (default: the run's own, or the demo)"
    )
    parser.add_argument("--run-dir", type=run_folder, default=None, help="default: runs/NAME of the config")
    parser.add_argument("--profile", type=Path, default=None, help="site profile, a YAML file")
    parser.add_argument("--cluster", choices=schedulers.CHOICES, default="auto")
    parser.add_argument(
        "--allow-shared", action="store_true", help="though others can write into the run folder"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, create nothing")
    parser.add_argument("overrides", nargs="*", metavar="key=value")


def run_folder(text: str) -> Path:
    """A path that was given: an unset variable of the shell is none."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; name a folder, or leave it out for runs/NAME")
    return Path(text)


def iterations(text: str) -> int | None:
    """A number of EM iterations, or None for `next`."""
    if text == "next":
        return None
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= MOST_ITERATIONS:
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r}: give a number of iterations from 0 to {MOST_ITERATIONS}, or 'next'"
        )
    return number


def launch(options: argparse.Namespace) -> None:
    """Plan a run and do what is missing, as the options of `main` say."""
    config, paths, origin = configured(options)
    plan = make_plan(config, options.iters, paths)
    for line in origin:
        print(line, flush=True)
    _say_of_sources(config)
    name, why = schedulers.choose(options.cluster)
    print(f"cluster: {name} ({why})", flush=True)
    if name == "slurm":
        _look_for_gpus(config)
    display = Display(paths)

    def heal_here(plan: Plan, stage: Stage, own_job: str) -> bool:
        return heal(plan, paths, scheduler, stage, own_job) is not None

    scheduler = schedulers.make(name, config, paths, job.run, display, heal_here)
    look = state.Look(paths)
    pending = look.pending(plan)
    _say_what_changes(plan, look, pending, scheduler)
    if options.dry_run:
        dry_run.show(plan, look, scheduler, pending)
        return
    asks = any("teacher" in stage.settings for stage in pending)
    missing = missing_engine(config) or (teachers.missing_key(config.teacher) if asks else None)
    if missing:  # a dry run may be made where nothing will run
        raise ConfigError(missing)
    if not pending and not os.access(paths.root, os.W_OK, effective_ids=True):
        print(f"{paths.root}: nothing to do, and nothing can be written there")
        output.print_table(collect(plan, paths), paths.report_html)
        return
    if not options.allow_shared:
        shared.refuse(paths)
    with display:
        if options.cluster == "auto" and not scheduler.outlives_launch:
            _refuse_unknown_jobs(paths)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.default_int_handler)
        try:
            with lock.hold(paths, scheduler.lock_seconds):
                _refuse_other_jobs(paths, scheduler)
                if scheduler.own_job:
                    plan = _claimed_plan(config, options.iters, paths, scheduler.own_job)
                _run(plan, paths, scheduler)
        except (Interrupted, KeyboardInterrupt) as error:  # the latter while no task was running
            if scheduler.own_job:
                _requeue(scheduler)
                raise Interrupted(str(error) or "stopped; the same command goes on from here") from error
            raise
    if state.Look(paths).complete(plan):
        _report(plan, paths)


def configured(options: argparse.Namespace) -> tuple[Config, RunPaths, list[str]]:
    """The configuration that options name, the run folder, and what to say of where settings come from. Where
    options name the folder of a run and no file, it is the run's own configuration, with the profile and the
    overrides over it.

    Raises:
        ConfigError: naming the file or field.
    """
    own = state.own_config(RunPaths(options.run_dir)) if options.run_dir and not options.config else None
    file = options.config or (None if own else demo_file())
    config = load_config(file, options.overrides, options.profile, own[0] if own else None)
    lines = []
    if own:
        lines += [
            f"{options.run_dir} goes on with its own configuration; --config takes another one",
            *own[1],
        ]
        file = RunPaths(options.run_dir).config
    if options.profile and file and file.exists():
        beats = f"{options.profile} goes before the configuration"
        lines += [f"{beats}: {line}" for line in beaten(file, options.profile)]
    return config, RunPaths(options.run_dir or Path("runs") / config.name), lines


def _say_of_sources(config: Config) -> None:
    """What a user should know of them."""
    found = (line for name in config.corpora for line in sources.remarks(getattr(config, name)))
    for line in dict.fromkeys(found):
        print(f"warning: {line}", flush=True)


def _look_for_gpus(config: Config) -> None:
    """Refuse jobs that lack GPUs, and warn of those that would compute without."""
    lacking = missing_gpus(config)
    if lacking:
        raise ConfigError(lacking)
    for line in slow_jobs(config):
        print(f"warning: {line}", flush=True)


def _say_what_changes(plan: Plan, look: state.Look, pending: Sequence[Stage], scheduler: Scheduler) -> None:
    """Settings that were forgotten since the last launch would have its results made again, and jobs
    cancelled."""
    paths = look.paths
    with contextlib.suppress(ConfigError):  # there was none, or it is not known
        deciding, others = causes.differences(state.last_plan(paths).config, plan.config)
        if deciding:
            print(f"warning: other settings than at the last launch: {'; '.join(deciding)}")
        if others:
            print(f"other settings than at the last launch that change no result: {'; '.join(others)}")
    again = list(causes.in_words(causes.of_stages(paths, plan, pending)))
    if again:
        print("to be made again:", *again, sep="\n  ")
    if schedulers.submitted(paths) and scheduler.outlives_launch:
        doomed = find_jobs(plan, paths, scheduler.queue())[1]
        if doomed:
            print(f"jobs of other settings, to be cancelled: {', '.join(sorted(doomed))}")
    sys.stdout.flush()


def _report(plan: Plan, paths: RunPaths) -> None:
    """Write and show it; a signal meanwhile is obeyed after that."""
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: asked.append(number))
    report = output.write(plan, paths)
    output.print_table(report, paths.report_html)
    curves.send(plan, paths, report, run_id(paths))
    if asked:
        raise KeyboardInterrupt


def _run(plan: Plan, paths: RunPaths, scheduler: Scheduler) -> None:
    """Submit what is missing and wait for it, where it needs this process. Under the lock."""
    lines = cancel_superseded(plan, paths, scheduler)
    lines += _pin(plan, paths)
    notice = scheduler.notice(plan)
    for warning in state.slow_checkpoints(paths, plan, notice.seconds, notice.source):
        lines.append(f"warning: {warning}")
    print(*lines, sep="\n", flush=True)
    events.record(paths, Launch(plan=plan.fingerprint))
    outcome = reconcile(plan, paths, scheduler)
    if scheduler.outlives_launch:
        print(*(f"  {line}" for line in outcome.lines), sep="\n")
        print(f"watch: squeue --me; python -m lt_hpc.status {paths.root}; logs in {paths.slurm}", flush=True)
    scheduler.wait()


def make_plan(config: Config, num_iterations: int | None, paths: RunPaths) -> Plan:
    """The plan of a checked configuration, its sources looked at; None: up to the first iteration
    that is not done.

    Raises:
        ConfigError: naming the field, before anything is created.
    """
    base_model.check(config.model)
    mode, identities = config.chunking.mode, dict[str, Any]()
    for name in config.corpora:
        needs_thought = name == "warm" and config.warm_is_taught
        sources.check(getattr(config, name), name, mode, needs_thought)
        identities[name] = sources.identity_in(config, name)
    identities["model"] = base_model.identity(config.model)
    identities["teacher"] = teachers.identity(config.teacher)
    identities["benchmark"] = benchmarks.identity(config)
    if num_iterations is not None:
        return build_plan(config, num_iterations, identities)
    return _next_plan(config, paths, identities)


def _next_plan(config: Config, paths: RunPaths, identities: dict[str, Any]) -> Plan:
    """Up to the first iteration that is not done. A longer plan has the stages of a shorter one, so that
    not every length has to be built."""
    look, length = state.Look(paths), 1
    while look.complete(plan := build_plan(config, length, identities)):
        length *= 2
    first = next(one.iteration for one in plan.stages if one.kind.goal and look.problem(one) is not None)
    return build_plan(config, max(1, first), identities)


def _pin(plan: Plan, paths: RunPaths) -> list[str]:
    """Write down what is asked and move results of other settings out of the way; returns what to
    say of it. Jobs of other settings must be gone by now: they would go on writing."""
    for folder in (paths.root, *paths.root.glob("*/"), *paths.root.glob("*/*/")):
        clean_temporaries(folder, alone=False)
    state.pin_plan(paths, plan)
    write_text(paths.config, config_to_yaml(plan.config))
    look = state.Look(paths)
    state.remove_spent_checkpoints(look, plan.stages)
    pending = look.pending(plan)
    lines = causes.move(paths, plan, pending)
    failures, keys = events.failures(events.read(paths)), {stage.key for stage in pending}
    lines += [
        f"{key}: failed the last time: {described(end)}" for key, end in failures.items() if key in keys
    ]
    return [*lines, f"{paths.root}: {len(plan.stages) - len(pending)} stages done, {len(pending)} to do"]


def _requeue(scheduler: Scheduler) -> None:
    """Put the job that this launch runs in back into the queue, where the site allows it."""
    try:
        done = scheduler.requeue(scheduler.own_job)
    except StageError as error:
        print(f"not requeued, submit it again to go on: {error}", flush=True)
    else:
        print("requeued" if done else "not requeued: cancelled, or requeued by Slurm", flush=True)


def _refuse_other_jobs(paths: RunPaths, scheduler: Scheduler) -> None:
    """Two ways of running a run at once would do the same work twice; a chain is reconciled with.

    Raises:
        ConfigError: naming the jobs that work on it.
    """
    jobs, allocations = schedulers.jobs_of_run(paths)
    others = [one for one in allocations if one != scheduler.own_job]
    others += [] if scheduler.outlives_launch else jobs
    if others:
        raise ConfigError(
            f"--run-dir {paths.root}: jobs in the queue work on this run ({', '.join(others)}); wait for "
            "them, or scancel them"
        )


def _refuse_unknown_jobs(paths: RunPaths) -> None:
    """If the controller does not answer, do not run locally what queued jobs may already be running.

    Raises:
        ConfigError: when jobs of this run may be in its queue.
    """
    if schedulers.submitted(paths):
        raise ConfigError(
            f"--run-dir {paths.root}: it was submitted to Slurm, and no controller answers now; try again "
            "when one does, or use --cluster local when none of its jobs is left"
        )


def _claimed_plan(config: Config, num_iterations: int | None, paths: RunPaths, own_job: str) -> Plan:
    """The plan of the job that this launch runs in, recorded at its first start: a requeue must not go
    on to yet another iteration. Under the lock."""
    claims = [one for one in events.of_kind(paths, Claim) if one.job == own_job]
    plan = make_plan(config, claims[-1].iterations if claims else num_iterations, paths)
    if not claims:
        events.record(paths, Claim(run=run_id(paths), job=own_job, iterations=plan.iterations))
    return plan


if __name__ == "__main__":
    sys.exit(main())
