"""The one place that turns a name into a scheduler, and an environment into a place."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, assert_never, get_args

from lt_hpc.cluster import heal as healing
from lt_hpc.cluster import names, reconcile
from lt_hpc.cluster.local import Local
from lt_hpc.cluster.place import Place
from lt_hpc.cluster.processes import Launcher, Processes, Watcher
from lt_hpc.cluster.scheduler import Scheduler
from lt_hpc.cluster.slurm import client, environment
from lt_hpc.cluster.slurm.environment import Allocation
from lt_hpc.cluster.slurm.scheduler import Slurm
from lt_hpc.cluster.slurm.steps import Steps
from lt_hpc.config.schema import Config
from lt_hpc.errors import ConfigError, StageError
from lt_hpc.run import events
from lt_hpc.run.events import Claim, Event, Submit
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths

Name = Literal["slurm", "local", "allocation"]
Choice = Name | Literal["auto"]
CHOICES = ("auto", *get_args(Name))


def choose(wanted: Choice) -> tuple[Name, str]:
    """One of `CHOICES` as a scheduler's name, and a few words on why it is that one.

    Raises:
        ConfigError: when it isn't to be had here.
    """
    asked = f"--cluster {wanted}"
    match wanted:
        case "local":
            return wanted, asked
        case "allocation":
            if Allocation.of(os.environ) is None:
                raise ConfigError(f"{asked}: no Slurm allocation here; use sbatch slurm/em_iter.sh")
            return wanted, asked
        case "slurm":
            found, why = client.available()
            if not found:
                raise ConfigError(f"{asked}: {why}; use --cluster local to run on this machine")
            return wanted, asked
        case "auto":
            found, why = client.available()
            return ("slurm" if found else "local"), why
        case _:
            assert_never(wanted)


def make(
    name: Name,
    config: Config,
    paths: RunPaths,
    run: Callable[[list[str]], None],
    watcher: Watcher,
    heal: Callable[[Plan, Stage, str], bool],
) -> Scheduler:
    """The scheduler of a launch. `run` is what jobs that outlive it run; `watcher` is shown what
    its own processes do, and `heal` called when one of them finds shards missing."""
    launcher: Launcher
    match name:
        case "slurm":
            return Slurm(paths, run)
        case "local":
            launcher = Local(paths, config)
        case "allocation":
            allocation = Allocation.of(os.environ)
            assert allocation is not None  # chosen only inside of one
            launcher = Steps(paths, allocation)
        case _:
            assert_never(name)
    return Processes(paths, launcher, watcher, heal)


def here(variables: Mapping[str, str]) -> Place:
    """The place of this process: as a launcher on this machine gave it, else as srun did, else alone."""
    given = Place.from_environment(variables)
    if given is not None:
        return given
    if not environment.started_by_srun(variables):
        return Place()
    place = environment.place(variables)
    return environment.place(variables, _address(place.node) if place.rank == 0 and place.count > 1 else None)


def _address(node: str) -> str:
    """A node's address as Slurm itself uses it; its name need not resolve."""
    try:
        found = client.node_address(node)
    except StageError:  # no Slurm commands in the container's image
        found = None
    return found or socket.gethostname()


def submitted(paths: RunPaths) -> bool:
    """Whether any Slurm job has ever worked on this run."""
    return events.ever_queued([*events.of_kind(paths, Claim), *events.of_kind(paths, Submit)])


def jobs_of_run(paths: RunPaths) -> tuple[list[str], list[str]]:
    """Ids of the Slurm jobs of this run's chain in the queue, and of allocations that run it; none where
    no controller answers."""
    if not submitted(paths) or not client.available()[0]:
        return [], []
    run, claims = names.run_id(paths), events.of_kind(paths, Claim)
    jobs = {task.job for task in reconcile.of_run(run, client.queue(), claims)}
    allocations = reconcile.allocations(run, claims) & jobs
    return sorted(jobs - allocations), sorted(allocations)


def states(paths: RunPaths, happened: Sequence[Event]) -> dict[str, Counter[str]]:
    """Stage key -> the states of its Slurm jobs; nothing where no controller answers. `happened`: all events
    of the run."""
    if not events.ever_queued(happened) or not client.available()[0]:
        return {}
    return reconcile.states(names.run_id(paths), client.queue(), happened)


def gone(paths: RunPaths, stages: Sequence[Stage], happened: Sequence[Event]) -> dict[str, list[str]]:
    """Stage key -> which of the last Slurm jobs of some stages were taken away or cancelled, in words, as far
    back as Slurm and its accounting know; nothing where no controller answers."""
    jobs = healing.submitted_last(stages, happened)
    if not jobs or not client.available()[0]:
        return {}
    found = healing.gone_of(names.run_id(paths), stages, happened, client.gone(jobs))
    return {key: [f"job {one.identity} {one.state}" for one in of_stage] for key, of_stage in found.items()}
