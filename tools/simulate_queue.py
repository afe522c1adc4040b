"""python tools/simulate_queue.py --preempted-every HOURS [--notice SECONDS] [--run RUN] [...]

How long an E-step and an M-step take on a preemptible queue, and how much of it is lost to preemptions, for a
small grid of settings: sample.num_shards and sample.block_chunks, train.checkpoint_seconds. Prints a table of
means over seeds with 95% t intervals, and the setting with the shortest wall time, with those that so many
seeds cannot tell from it. Seconds.

    python tools/simulate_queue.py --preempted-every 2 --notice 60 --chunks 200000 --chunk-seconds 0.4 \\
        --num-shards 64 256 --block-chunks 64 256 --steps 3000 --step-seconds 5 --checkpoint-seconds 120 600

--run takes what a run on Slurm has measured (seconds of a chunk, of a step, of a checkpoint, of loading, of
leaving, in the queue, the number of each) in place of what is not given, and compares the run's own ledger
of lost work, which `report` prints, with what is simulated at its settings and its rate of stops. Costs and
rate are then those of the run that is compared with: it says no more than whether its ledger is what such
costs would give. tools/check_simulation.py predicts tasks by the costs of others.

A job is preempted at random, at a constant rate while it runs, and waits `--requeue` in the queue. What it
does with the notice is what lt_hpc does: a task of the E-step ends its block, training its step and a
checkpoint, and leaves; what does not fit into the notice is lost, and so is the loading after every stop.
Time limits, dependence between preemptions (a whole rack at once), a queue that is longer at night and the
next block of vLLM, which begins before one ends, are not simulated.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lt_hpc.errors import ConfigError, guarded
from lt_hpc.latent import intervals
from lt_hpc.report import work as ledger
from lt_hpc.report.work import Attempt
from lt_hpc.run import events, state
from lt_hpc.run.events import Event
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store import manifest, shards
from lt_hpc.store.paths import RunPaths
from tools.preemption import Outcome, Work, dealt, simulate


@dataclass(frozen=True)
class Setting:
    """A line of a table: settings of the run, and what becomes of a stage with them, by seed."""

    name: str
    outcomes: list[Outcome]

    def mean(self, figure: str, unit: float = 3600.0) -> str:
        """Mean and interval of a figure of the outcomes, in hours."""
        if math.isinf(self.wall):
            return "never ends"
        return shown([getattr(one, figure) / unit for one in self.outcomes])

    @property
    def wall(self) -> float:
        return statistics.fmean(one.wall for one in self.outcomes)


def shown(values: Sequence[float]) -> str:
    """Mean and t interval of independent values."""
    mean, interval = intervals.ratio(np.array(values), np.ones(len(values)))
    return f"{mean:.4g}" if interval is None else f"{mean:.4g} [{interval[0]:.4g}, {interval[1]:.4g}]"


def settings_of_sampling(options: argparse.Namespace) -> list[Setting]:
    """The grid of the E-step."""
    found = []
    for num_shards, block in itertools.product(options.num_shards, options.block_chunks):
        blocks = math.ceil(options.chunks / block)
        seconds = options.block_overhead + options.chunk_seconds * options.chunks / blocks
        work = Work(seconds, options.load, options.notice, leave=options.leave)
        name = f"sample.num_shards={num_shards} sample.block_chunks={block}"
        found.append(_setting(name, dealt(blocks, num_shards), work, options.parallel, options, 1))
    return found


def settings_of_training(options: argparse.Namespace) -> list[Setting]:
    """The grid of the M-step."""
    found = []
    for every in options.checkpoint_seconds:
        work = Work(
            *(options.step_seconds, options.train_load, options.notice, every),
            *(options.checkpoint_cost, min(options.checkpoint_blocked, options.checkpoint_cost)),
            options.leave,
        )
        name = f"train.checkpoint_seconds={every:g}"
        found.append(_setting(name, [options.steps], work, 1, options, options.train_nodes))
    return found


def _setting(
    name: str, tasks: Sequence[int], work: Work, slots: int, options: argparse.Namespace, nodes: int
) -> Setting:
    """`nodes`: of a job, each of which may be taken away."""
    every = options.preempted_every * 3600 / nodes
    seeds = _seeds(options)
    return Setting(name, [simulate(tasks, work, slots, every, options.requeue, one) for one in seeds])


def _seeds(options: argparse.Namespace) -> list[tuple[int, int]]:
    return [(options.seed, number) for number in range(options.seeds)]


def table(title: str, found: Sequence[Setting]) -> Iterator[str]:
    """Lines of a table, and the best."""
    yield f"\n{title}, hours; lost and busy summed over its tasks\n"
    yield "| setting | wall | busy | lost | stops |"
    yield "|---|---|---|---|---|"
    for one in found:
        cells = [one.mean("wall"), one.mean("busy"), one.mean("lost"), one.mean("stops", 1.0)]
        yield f"| {one.name} | {' | '.join(cells)} |"
    best = min(found, key=lambda one: one.wall)
    if math.isinf(best.wall):
        yield "\nnone of these ends: a unit of work and its loading are too long for this rate and notice"
        return
    yield f"\nshortest: {best.name}, {best.mean('wall')} h"
    equal = [one.name for one in found if one is not best and _not_told_apart(one, best)]
    if equal:
        yield f"not told from it by {len(best.outcomes)} seeds: {'; '.join(equal)}"


def _not_told_apart(one: Setting, best: Setting) -> bool:
    """Whether the interval of the paired difference in wall time holds 0."""
    differences = np.array([a.wall - b.wall for a, b in zip(one.outcomes, best.outcomes, strict=True)])
    if not np.isfinite(differences).all():
        return False
    _, interval = intervals.ratio(differences, np.ones(len(differences)))
    return interval is None or interval[0] <= 0 <= interval[1]


@dataclass(frozen=True)
class Measured:
    """What the tasks of one stage of a run have measured, means in seconds: `load`, `seconds` of a unit,
    `leave` as of `Work`, and `requeue`, from a stop to the next start of the job, None for no stop; how often
    they were stopped in so many seconds at work, and what the ledger says was lost."""

    stage: Stage
    load: float
    seconds: float
    leave: float
    requeue: float | None
    stops: int
    busy: float
    lost: float


def measured(plan: Plan, happened: Sequence[Event], sharded: bool) -> Measured | None:
    """Of the newest stage of a run that has recorded it, an E-step or a training. Pure."""
    for stage in reversed(plan.stages):
        if not (stage.kind.sharded and "corpus" in stage.inputs if sharded else stage.kind.ranked):
            continue
        own = [one for one in ledger.attempts(happened) if one.stage == stage.key]
        units = sum(one.units or 0 for one in own if one.setup is not None)
        if not units:
            continue
        found = next(one for one in ledger.of_run(plan, happened, False) if one.stage == stage.key)
        return Measured(
            stage,
            load=statistics.fmean(one.setup for one in own if one.setup is not None),
            seconds=sum(one.saved - one.setup for one in own if one.saved and one.setup is not None) / units,
            leave=_mean([one.left for one in own if one.stopped and one.left is not None]) or 0.0,
            requeue=_mean(_requeues(own)),
            stops=len(found.stops),
            busy=sum(one.seconds or 0.0 for one in own),
            lost=found.lost_seconds,
        )
    return None


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _requeues(own: Sequence[Attempt]) -> list[float]:
    """Seconds from each stop until the same job began again."""
    stopped, found = dict[str, float](), []
    for one in own:
        gone = stopped.pop(one.job, None)
        if gone is not None and one.start is not None:
            found.append(max(0.0, one.start - gone))
        if one.job and one.stopped and one.end is not None:
            stopped[one.job] = one.end
    return found


def take_from_run(options: argparse.Namespace, plan: Plan, paths: RunPaths) -> Iterator[str]:
    """Fill in what was not given by what a run has measured; a line for each stage, its ledger beside what is
    simulated at its own settings."""
    happened, config = events.read(paths), plan.config
    found = measured(plan, happened, sharded=True)
    pinned = shards.read(paths.root / found.stage.output) if found else None
    if found and pinned:
        block = config.sample.block_chunks
        _fill(options, chunks=pinned.num_chunks, chunk_seconds=found.seconds / block, load=found.load)
        _fill(options, num_shards=[pinned.num_shards], block_chunks=[block])
        _fill(options, parallel=config.slurm.array_parallelism, preempted_every=_hours(found))
        _fill(options, leave=found.leave, requeue=found.requeue)
        tasks = [len(pinned.blocks(number)) for number in range(pinned.num_shards)]
        work = Work(found.seconds, found.load, options.notice, leave=found.leave)
        yield beside(found, tasks, work, _seeds(options))
    found = measured(plan, happened, sharded=False)
    record = manifest.read(paths.root / found.stage.output) if found else None
    if found and record:
        train = plan.training(found.stage)
        every = train.checkpoint_steps * found.seconds if train.checkpoint_steps else train.checkpoint_seconds
        cost = record.statistics.get("checkpoint") or {}
        save, blocked = cost.get("seconds", 0.0), cost.get("blocked_seconds", 0.0)
        nodes = config.slurm.job(found.stage.name).nodes
        _fill(options, steps=record.counts["steps"], step_seconds=found.seconds, train_load=found.load)
        _fill(options, checkpoint_seconds=[every], checkpoint_cost=save, checkpoint_blocked=blocked)
        _fill(options, leave=found.leave, requeue=found.requeue)
        hours = _hours(found)
        _fill(options, train_nodes=nodes, preempted_every=None if hours is None else nodes * hours)
        work = Work(found.seconds, found.load, options.notice, every, save, blocked, found.leave)
        yield beside(found, [record.counts["steps"]], work, _seeds(options))


def _fill(options: argparse.Namespace, **values: object) -> None:
    for name, value in values.items():
        if getattr(options, name) is None:
            setattr(options, name, value)


def _hours(found: Measured) -> float | None:
    """At work from one stop to the next."""
    return found.busy / found.stops / 3600 if found.stops else None


def beside(found: Measured, tasks: Sequence[int], work: Work, seeds: Sequence[Sequence[int]]) -> str:
    """The ledger of a stage, and what is simulated at the rate of its stops."""
    said = f"{found.stage.key}: {found.stops} stops in {found.busy:.0f} s at work, {found.lost:.1f} s lost"
    if not found.stops:
        return said
    every = found.busy / found.stops
    outcomes = [simulate(tasks, work, len(tasks), every, 0.0, one) for one in seeds]
    lost = sum(one.lost for one in outcomes) / max(1, sum(one.stops for one in outcomes))
    return (
        f"{said}, {found.lost / found.stops:.1f} s per stop; simulated, warned every {every:.0f} s: "
        f"{shown([one.lost for one in outcomes])} s lost, {lost:.1f} s per stop"
    )


def parser() -> argparse.ArgumentParser:
    """Of the command line; None: from the run, or a stage that is not simulated."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--run", type=Path, help="take from it what is not given")
    made.add_argument("--preempted-every", type=float, metavar="HOURS", help="of a node at work, on average")
    made.add_argument("--notice", type=float, default=0.0, help="seconds, the smaller of GraceTime and "
                      "slurm.signal_seconds (default: none)")  # fmt: skip
    made.add_argument("--requeue", type=float, help="seconds in the queue after a preemption (default: 300)")
    made.add_argument(
        "--leave", type=float, help="seconds of a stopped task to requeue its job (default: none)"
    )
    made.add_argument("--seeds", type=int, default=20)
    made.add_argument("--seed", type=int, default=0)
    sampling = made.add_argument_group("E-step")
    sampling.add_argument("--chunks", type=int)
    sampling.add_argument("--chunk-seconds", type=float, help="of one engine")
    sampling.add_argument("--block-overhead", type=float, default=0.0, help="seconds of a block beside that")
    sampling.add_argument("--load", type=float, help="seconds until a task is at work")
    sampling.add_argument("--parallel", type=int, help="tasks at the same time (slurm.array_parallelism)")
    sampling.add_argument("--num-shards", type=int, nargs="+")
    sampling.add_argument("--block-chunks", type=int, nargs="+")
    training = made.add_argument_group("M-step")
    training.add_argument("--steps", type=int)
    training.add_argument("--step-seconds", type=float)
    training.add_argument("--checkpoint-cost", type=float, help="seconds until one is complete")
    training.add_argument("--checkpoint-blocked", type=float, help="seconds of these that training waits")
    training.add_argument("--train-load", type=float, help="seconds until it is at work")
    training.add_argument("--train-nodes", type=int, help="nodes of the job")
    training.add_argument("--checkpoint-seconds", type=float, nargs="+")
    return made


_SAMPLING = ("chunks", "chunk_seconds", "load", "parallel", "num_shards", "block_chunks")
_TRAINING = (
    "steps",
    "step_seconds",
    "checkpoint_cost",
    "checkpoint_blocked",
    "train_load",
    "train_nodes",
    "checkpoint_seconds",
)


def _lacking(options: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Options of a stage that are to be given; none where none of its size is."""
    missing = [name for name in names if getattr(options, name) is None]
    return [] if names[0] in missing else [f"--{name.replace('_', '-')}" for name in missing]


@guarded
def main(arguments: list[str] | None = None) -> int:
    """The command."""
    options = parser().parse_args(arguments)
    if options.run:
        paths = RunPaths(options.run)
        for line in take_from_run(options, state.last_plan(paths), paths):
            print(line, flush=True)
    _fill(options, requeue=300.0, leave=0.0)
    missing = _lacking(options, _SAMPLING) + _lacking(options, _TRAINING)
    if options.preempted_every is None:
        missing.append("--preempted-every")
    if missing or options.chunks is None is options.steps:
        wanted = ", ".join(missing) or "--chunks or --steps"
        raise ConfigError(f"simulate_queue: give {wanted}, or a --run on Slurm that has measured it")
    if options.chunks is not None:
        print(*table("E-step", settings_of_sampling(options)), sep="\n")
    if options.steps is not None:
        print(*table("M-step", settings_of_training(options)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
