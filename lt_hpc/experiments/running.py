"""Starting the runs of an experiment, each by the ordinary launcher, in an order in which they share work."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lt_hpc.cluster import lock, schedulers
from lt_hpc.cluster.signals import die_with_parent
from lt_hpc.experiments.arms import ArmRun
from lt_hpc.run import causes, state
from lt_hpc.run.adopt import adopt
from lt_hpc.run.plan import Stage
from lt_hpc.store import manifest
from lt_hpc.store.paths import RunPaths

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Options:
    """`parallel`: launches at once on this machine; `launch`: further arguments of each."""

    parallel: int
    launch: tuple[str, ...]


@dataclass
class _Launched:
    """A launch under way, and what it makes."""

    run: ArmRun
    what: str
    log: Path
    process: subprocess.Popen[bytes]
    makes: set[str]
    started: float = field(default_factory=time.monotonic)


def submit(runs: Sequence[ArmRun], options: Options) -> list[str]:
    """Submit every run that is not done to Slurm; returns which failed, and why."""
    failures = []
    for run in runs:
        if run.is_done:
            continue
        _adopt(run)
        launched = _launch(run, run.arm.iterations, options, set())
        launched.process.wait()
        failures += _ended(launched, "submitted")
    return failures


def run_here(runs: Sequence[ArmRun], options: Options) -> list[str]:
    """Run all that is not done on this machine; returns which failed, and why. A run waits while another one
    makes what both need, and takes it over then; what all make alike, the warm start, comes first."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.default_int_handler)
    waiting = [run for run in runs if not run.is_done]
    running: list[_Launched] = []
    failures: list[str] = []
    try:
        while waiting or running:
            while len(running) < options.parallel and _start_next(waiting, running, runs, options):
                pass
            ended = _wait(running)
            for one in ended:
                running.remove(one)
                found = _ended(one, "done")
                failures += found
                if found:
                    waiting = [run for run in waiting if run is not one.run]
    finally:
        _stop(running)
    return failures


def _start_next(
    waiting: list[ArmRun], running: list[_Launched], runs: Sequence[ArmRun], options: Options
) -> bool:
    """Start the first run that makes nothing which another one is making; False where there is none."""
    for run in list(waiting):
        if any(one.run is run for one in running):
            continue
        _adopt(run)
        pending = state.pending(run.paths, run.plan)
        first = [stage for stage in pending if stage.iteration == 0]
        shared = any(_missing(run, first) & other.outputs for other in waiting if other is not run)
        makes = _missing(run, first if first and shared else pending)
        if any(one.run.seed == run.seed and one.makes & makes for one in running):
            continue
        iterations = 0 if first and shared else run.arm.iterations
        if iterations == run.arm.iterations:
            waiting.remove(run)
        running.append(_launch(run, iterations, options, makes))
        return True
    return False


def _missing(run: ArmRun, stages: Sequence[Stage]) -> set[str]:
    """Fingerprints of what some pending stages of a run will make; a stage makes some folders of several."""
    return {
        expected
        for stage in stages
        for folder, expected in stage.outputs.items()
        if stage.kind.sharded or manifest.problem(run.paths.root / folder, expected) is not None
    }


def _adopt(run: ArmRun) -> None:
    """From runs of the same seed, of this and of other experiments beside it, once outputs of other settings
    are out of the way. A run that was ever submitted may have jobs at work in its folder, and goes on by
    itself."""
    if schedulers.submitted(run.paths):
        return
    folder = run.paths.root.resolve()
    others = [path for path in sorted(folder.parents[2].glob(f"*/seed-{run.seed}/*")) if path.is_dir()]
    with lock.hold(run.paths):
        for line in causes.move(run.paths, run.plan, state.pending(run.paths, run.plan)):
            print(f"{run}: {line}", flush=True)
        found = adopt(run.paths, run.plan, [RunPaths(path) for path in others if path != folder])
    if found:
        print(f"{run}: shares {', '.join(found)}", flush=True)


def _launch(run: ArmRun, iterations: int, options: Options, makes: set[str]) -> _Launched:
    local = run.plan.config.local
    share = [
        f"local.{name}={max(1, getattr(local, name) // options.parallel)}"
        for name in ("processes", "train_ranks")
    ]
    arguments = [
        "--config", str(run.config), "--iters", str(iterations), "--run-dir", str(run.paths.root),
        *options.launch, *run.overrides, *(share if options.parallel > 1 else []),
    ]  # fmt: skip
    log = run.paths.root.with_name(f"{run.arm.name}.log")
    process = start_launch(arguments, log)
    what = f"{run}, up to iteration {iterations}"
    print(f"{what}: started", flush=True)
    return _Launched(run, what, log, process, makes)


def start_launch(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """`lt-hpc launch ARGUMENTS` as a process that appends what it says to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        # A session of its own: Ctrl-C reaches this process, which tells its launches once. None of them is
        # left when it is killed: they would hold the run folders against the same command.
        return subprocess.Popen(
            [sys.executable, "-m", "lt_hpc.launch", *arguments],
            stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=functools.partial(die_with_parent, os.getpid()),
        )  # fmt: skip


def _wait(running: Sequence[_Launched]) -> list[_Launched]:
    """The launches that have ended, once there are any."""
    while running:
        ended = [one for one in running if one.process.poll() is not None]
        if ended:
            return ended
        time.sleep(POLL_SECONDS)
    return []


def _ended(one: _Launched, word: str) -> list[str]:
    """What to say of a launch that failed."""
    code = one.process.returncode
    if code == 0:
        print(f"{one.what}: {word} in {time.monotonic() - one.started:.0f} s", flush=True)
        return []
    lines = one.log.read_text(errors="replace").splitlines() or ["it said nothing"]
    failure = f"{one.what}: launch ended with exit code {code}: {lines[-1]} ({one.log})"
    print(failure, flush=True)
    return [failure]


def _stop(running: Sequence[_Launched]) -> None:
    """Launches save what they have, and go."""
    for one in running:
        one.process.send_signal(signal.SIGINT)
    for one in running:
        one.process.wait()
