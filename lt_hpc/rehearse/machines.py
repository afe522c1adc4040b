"""Where the runs of a rehearsal are at work, and how a task is preempted there: with what a user may do to
jobs and processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from lt_hpc.cluster.names import run_id
from lt_hpc.cluster.reconcile import of_run
from lt_hpc.cluster.slurm import client
from lt_hpc.cluster.slurm.site import Site
from lt_hpc.config.schema import Config
from lt_hpc.errors import Interrupted, StageError
from lt_hpc.experiments.running import start_launch
from lt_hpc.kinds import KINDS, Kind
from lt_hpc.run import events, state
from lt_hpc.run.events import Started
from lt_hpc.run.plan import Plan
from lt_hpc.store.paths import RunPaths

QUEUE_SECONDS = 2.0
"""From one look at the queue to the next: a controller has other users."""


LAG_SECONDS = 15.0
"""How long what a job wrote may take to be seen here after its end."""


class Machine(Protocol):
    """Where one run is at work."""

    paths: RunPaths
    beside: bool
    """Whether another run may be at work at the same time."""

    def start(self) -> None:
        """Launch what is missing, without waiting for it.

        Raises:
            StageError: with the last line of the launch's log.
        """
        ...

    def working(self) -> bool:
        """Whether anything works on the run, or waits in the queue to.

        Raises:
            StageError: when what did has failed.
        """
        ...

    def can_stop(self, task: Started) -> bool:
        """Whether a task that has started handles signals by now."""
        ...

    def warn(self, tasks: Collection[Started]) -> None:
        """Tell tasks to save and leave, as a preemption does."""
        ...

    def take(self, tasks: Collection[Started]) -> None:
        """End tasks that will come back, whether or not they have saved."""
        ...

    def hurry(self, tasks: Collection[Started]) -> None:
        """Have those that wait in the queue to come back do so without a delay."""
        ...

    def notice(self, kind: Kind) -> float:
        """Seconds from the warning to the end."""
        ...

    def close(self) -> None:
        """The rehearsal is given up, or at its end."""
        ...


class OnSlurm:
    """Jobs of a chain."""

    beside = True

    def __init__(self, paths: RunPaths, plan: Plan, launch: Sequence[str], log: Path) -> None:
        self.paths, self.plan, self.launch, self.log = paths, plan, launch, log
        self.looked, self.queued, self.hurried = 0.0, True, 0.0
        self.signal = warning(client.site(nodes=False))

    def start(self) -> None:
        code = start_launch(self.launch, self.log).wait()
        if code:
            raise failed(self.paths, self.log, code)
        self.looked, self.queued = time.monotonic(), True

    def working(self) -> bool:
        if time.monotonic() - self.looked > QUEUE_SECONDS:
            self.queued = bool(of_run(run_id(self.paths), client.queue(), []))
            self.looked = time.monotonic()
        if not self.queued and not self._done():
            ends = events.unfinished_ends(events.read(self.paths))
            told = "; ".join(f"{stage}: {events.described(end)}" for stage, end in ends.items())
            raise StageError(
                f"{self.paths.root}: no job is left and it is not done: {told or self.paths.slurm}"
            )
        return self.queued

    def _done(self) -> bool:
        """Whether the run is complete, once what its last job wrote is seen here."""
        deadline = time.monotonic() + LAG_SECONDS
        while not state.Look(self.paths).complete(self.plan):
            if time.monotonic() > deadline:
                return False
            time.sleep(1)
        return True

    def can_stop(self, task: Started) -> bool:
        return True  # a job says that it has started once it does

    def warn(self, tasks: Collection[Started]) -> None:
        client.warn((task.job for task in tasks), self.signal)

    def take(self, tasks: Collection[Started]) -> None:
        for job in sorted({task.job for task in tasks}):
            try:
                client.requeue(job)
            except StageError as error:  # it has ended; or the site does not let a user requeue
                print(f"warning: job {job} was not requeued: {error}", file=sys.stderr, flush=True)

    def hurry(self, tasks: Collection[Started]) -> None:
        if time.monotonic() - self.hurried > QUEUE_SECONDS:
            self.hurried = time.monotonic()
            jobs = {task.job for task in tasks}
            client.start_now(one.identity for one in client.queue() if one.waiting and one.identity in jobs)

    def notice(self, kind: Kind) -> float:
        seconds = self.plan.config.slurm.signal_seconds
        return client.notice(self.plan.config.slurm.where(kind.name), seconds, "").seconds

    def close(self) -> None:
        return  # jobs outlive it, and the next rehearsal finds them


class Here:
    """Processes of a launch on this machine, which is started again as a person would."""

    beside = False
    grace_seconds = 150.0
    """More than a launch gives its tasks to save."""

    def __init__(self, paths: RunPaths, launch: Sequence[str], log: Path) -> None:
        self.paths, self.launch, self.log = paths, launch, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = start_launch(self.launch, self.log)

    def working(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        if code not in (None, 0, Interrupted.exit_code, -signal.SIGKILL):
            raise failed(self.paths, self.log, code)
        return code is None

    def can_stop(self, task: Started) -> bool:
        try:
            status = Path(f"/proc/{task.pid}/status").read_text()
        except OSError:  # it has ended
            return False
        caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
        return bool(int(caught, 16) >> (signal.SIGUSR2 - 1) & 1)

    def warn(self, tasks: Collection[Started]) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)

    def take(self, tasks: Collection[Started]) -> None:
        if self.process is not None:
            self.process.kill()  # the kernel ends its tasks with it

    def hurry(self, tasks: Collection[Started]) -> None:
        return

    def notice(self, kind: Kind) -> float:
        return self.grace_seconds

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()


def failed(paths: RunPaths, log: Path, code: int | None) -> StageError:
    """Of a launch."""
    lines = log.read_text(errors="replace").splitlines() or ["it said nothing"]
    return StageError(f"{paths.root}: its launch ended with exit code {code}: {lines[-1]} ({log})")


def warning(site: Site) -> str:
    """The signal that jobs get when they are preempted. Pure."""
    return "USR2" if site.sends_user_signal else "TERM"


def simulated_here() -> str:
    """What a preemption is on one machine, in words."""
    never = " and ".join(kind.name for kind in KINDS if not kind.resumes)
    return (
        f"a preemption: TERM to the launch, and the same command again; kill -9 for {never}, which keep "
        "nothing on their way"
    )


def simulated_at(site: Site, config: Config) -> list[str]:
    """What a preemption is in a rehearsal on Slurm, and what it is not, in words. Pure."""
    lines = []
    for where in (config.slurm.where(kind.name) for kind in KINDS):
        given = site.preemption(where)
        name = f"partition {found.name}" if (found := site.partition(where.partition)) else "this partition"
        notice = client.notice_at(site, where, config.slurm.signal_seconds, "slurm.signal_seconds")
        signal_seconds = f"{notice.seconds:g} s ({notice.source})"
        how = f"{warning(site)}, and scontrol requeue of what has not left after {signal_seconds}"
        match given.mode:
            case "REQUEUE":
                lines.append(f"a preemption on {name}: {how}, as Slurm does it there; then a start at once")
            case "CANCEL":
                lines.append(
                    f"a preemption on {name}: {how}. Not rehearsed: there Slurm cancels what has not left, "
                    "and the chain submits it again; only Slurm itself can preempt like that"
                )
            case mode:
                lines.append(f"a preemption: {how}. {name} itself preempts nothing that way ({mode})")
    return list(dict.fromkeys(lines))
