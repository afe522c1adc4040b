"""python tools/check_simulation.py RUN [--every 20 40 80] [--tasks 4] [--blocks 120 160 320] [--notice 8]

Whether tools/simulate_queue.py says what is lost on a real Slurm: for each rate, a copy of RUN (of which
iteration 0 is made, `lt-hpc launch --iters 0`) has its E-step preempted at random, each start of a task after
an exponential time at work with this mean in seconds, and its ledger of lost work is compared with what is
predicted for it. For the cluster of this shell, `eval "$(bash tools/devcluster.sh up)"`, with at least a node
for each task, which nothing else may use meanwhile.

Predicted are how often tasks are stopped, and the seconds that the ledger has as lost. What goes in:

- what was asked for: the number of tasks and of their blocks, the notice, the mean of the preemptions and
  the seed of their draws. Each start of a task has a draw of its own (`preemption.warning`), the same here
  and in the simulation, so that by chance neither has more preemptions than the other;
- four costs, means in seconds, of the OTHER half of the tasks, which sleep beside those that are predicted:
  until a start is at work, of a block, of leaving (all three from the events of the run), and from the moment
  when a preemption is due until the task is warned (Slurm's own, noted by tasks). So no figure of a task
  enters what is predicted for it, and a busy machine is as busy for both.

Beside the ledger's sum stands its 95% t interval over the tasks, which are independent, and beside the
prediction the range of 95% of runs with other draws: what one run of this size can show at all.

The tasks sleep where they would load a model and sample (tools/sleeping), so that what is compared is the
work of Slurm, of signals, of requeues and of the ledger, whatever else the machine does; a node has one task.
A job of the partition `high` takes a node away for a moment.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lt_hpc.latent import intervals
from lt_hpc.report import work as ledger
from lt_hpc.run import events, state
from lt_hpc.run.events import Ended, Event, Started, Submit
from lt_hpc.run.plan import Plan
from lt_hpc.store.paths import RunPaths
from tools.preemption import Outcome, Work, dealt, simulate, warning
from tools.simulate_queue import measured

ROOT = Path(__file__).parents[1]
STAGE, LOAD, BLOCK = "sample-01", 4.0, 5.0
OTHER_SEEDS = 200
Start = tuple[str, int]
"""Job and how often it was restarted."""


@dataclass(frozen=True)
class Happened:
    """What came of one rate: the events of the E-step, and when each preemption was due and noticed, in
    seconds since the epoch."""

    plan: Plan
    events: list[Event]
    due: Mapping[Start, float]
    warned: Mapping[Start, float]


def tell(*command: str) -> str:
    """Output of a command."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def launch(run: Path, options: argparse.Namespace, blocks: int) -> None:
    """Submit the chain of a run whose E-step sleeps."""
    variables = f"SLEEP_LOAD={LOAD} SLEEP_BLOCK={BLOCK} SLEEP_CHUNKS={blocks}"
    asleep = f"export {variables} PYTHONPATH={ROOT}/tools/sleeping:{ROOT}"
    setup = f"case $SLURM_JOB_NAME in sample*) {asleep};; esac"
    tell(
        *(sys.executable, "-m", "lt_hpc.launch", "--cluster", "slurm", "--iters", "1", "--run-dir", str(run)),
        *("--profile", str(ROOT / "configs" / "cluster" / "devcluster.yaml"), f'slurm.setup=["{setup}"]'),
        *(f"slurm.signal_seconds={options.notice}", f"sample.num_shards={options.tasks}"),
        *("sample.block_chunks=1", "slurm.sample.cpus_per_task=4", "slurm.sample.minutes=60"),
        *(f"slurm.array_parallelism={options.tasks}",),
    )


def left(run: Path) -> bool:
    """Whether jobs of the E-step are in the queue."""
    made = {one.submission for one in events.of_kind(RunPaths(run), Submit) if one.stage == STAGE}
    return any(name.rpartition("-")[2] in made for name in tell("squeue", "-h", "-o", "%j").splitlines())


def number_of(job: str) -> int:
    """Of the task, and of its shard."""
    return int(job.partition("_")[2])


def preempt(run: Path, every: float, seed: Sequence[int]) -> dict[Start, float]:
    """Preempt tasks of the E-step at random, until none is left; when each was due."""
    found, asked = dict[Start, float](), set[Start]()
    while left(run):
        now, at_work = time.time(), dict[Start, Started]()
        for one in events.read(RunPaths(run)):
            if isinstance(one, Started) and one.stage == STAGE:
                at_work[one.job, one.restart] = one
            elif isinstance(one, Ended) and one.stage == STAGE:
                at_work.pop((one.job, one.restart), None)
        for start, one in at_work.items():
            job, restart = start
            if start not in found:
                found[start] = now + warning(seed, number_of(job), restart, every)
            if now >= found[start] and start not in asked:
                asked.add(start)
                options = ["--partition=high", f"--nodelist={one.node}", "--exclusive", "--output=/dev/null"]
                tell("sbatch", *options, "--wrap=sleep 1")
        time.sleep(0.2)
    return found


def try_rate(
    source: Path, run: Path, every: float, seed: Sequence[int], blocks: int, options: argparse.Namespace
) -> Happened:
    """Launch a copy of a run and preempt its E-step."""
    shutil.copytree(source, run, ignore=shutil.ignore_patterns("iter-0[1-9]", "progress"))
    before = len(events.read(RunPaths(run)))
    launch(run, options, blocks)
    due = preempt(run, every, seed)
    tell("scancel", "--me")  # what would merge nothing
    notes = (run / "warned").iterdir() if (run / "warned").is_dir() else ()
    warned = {(one.stem, int(one.suffix[1:])): float(one.read_text()) for one in notes}
    return Happened(state.last_plan(RunPaths(run)), events.read(RunPaths(run))[before:], due, warned)


def of_tasks(happened: Happened, half: int | None = None, task: int | None = None) -> list[Event]:
    """The events of every other task, or of one."""
    return [
        one
        for one in happened.events
        if isinstance(one, Started | Ended) and one.stage == STAGE
        if half is None or number_of(one.job) % 2 == half
        if task is None or number_of(one.job) == task
    ]


@dataclass(frozen=True)
class Costs:
    """Of one half of the tasks; see above."""

    work: Work
    requeue: float
    delay: float


def costs(happened: Happened, half: int, notice: float) -> Costs:
    """As the tasks of one half have measured them."""
    found = measured(happened.plan, of_tasks(happened, half), sharded=True)
    noticed = [
        happened.warned[start] - due
        for start, due in happened.due.items()
        if start in happened.warned and number_of(start[0]) % 2 == half
    ]
    if found is None or found.requeue is None or not noticed:
        raise SystemExit(f"no task of half {half} was stopped after a block; try more blocks")
    work = Work(found.seconds, found.load, notice, leave=found.leave)
    return Costs(
        work, found.requeue, statistics.median(noticed)
    )  # some were warned before they could note it


def predicted(
    halves: Sequence[Costs], tasks: Sequence[int], every: float, seed: Sequence[int]
) -> list[Outcome]:
    """Of each half of the tasks, with the costs of the other."""
    found = []
    for half, of in enumerate(reversed(halves)):
        own = [units if number % 2 == half else 0 for number, units in enumerate(tasks)]
        found.append(simulate(own, of.work, len(tasks), every, of.requeue, seed, of.delay))
    return found


def rows(
    happened: Happened, tasks: Sequence[int], every: float, seed: Sequence[int], notice: float
) -> Iterator[str]:
    """What came of one rate: the costs that were measured, and a line of the table."""
    halves = [costs(happened, half, notice) for half in (0, 1)]
    for half, of in enumerate(halves):
        work = of.work
        yield (
            f"every {every:g} s, half {half}: load {work.load:.2f} s, block {work.seconds:.2f} s, leave "
            f"{work.leave:.2f} s, requeue {of.requeue:.1f} s, warned {of.delay:.2f} s after it was due"
        )
    (whole,) = ledger.of_run(happened.plan, of_tasks(happened), on_gpu=False)
    by_task = []
    for number in range(len(tasks)):
        (one,) = ledger.of_run(happened.plan, of_tasks(happened, task=number), on_gpu=False)
        by_task.append(one.lost_seconds)
    _, interval = intervals.ratio(np.array(by_task), np.ones(len(tasks)))
    low, high = (len(tasks) * one for one in interval) if interval else (float("nan"),) * 2
    said = predicted(halves, tasks, every, seed)
    lost, stops = sum(one.lost for one in said), sum(one.stops for one in said)
    others = [
        sum(one.lost for one in predicted(halves, tasks, every, (*seed, 1, number)))
        for number in range(OTHER_SEEDS)
    ]
    ends = np.quantile(others, [0.025, 0.975])
    yield (
        f"| {every:g} s | {len(whole.stops)} | {whole.lost_seconds:.0f} "
        f"[{low:.0f}, {high:.0f}] | {stops} | {lost:.0f} | {100 * (lost / whole.lost_seconds - 1):+.0f}% | "
        f"{np.mean(others):.0f} [{ends[0]:.0f}, {ends[1]:.0f}] | {whole.unknown_losses} |"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--every", type=float, nargs="+", default=[20.0, 40.0, 80.0], metavar="SECONDS")
    parser.add_argument("--tasks", type=int, default=4, help="at the same time, a node for each")
    parser.add_argument(
        "--blocks", type=int, nargs="+", default=[120, 160, 320], help="of all tasks together, for each rate"
    )
    parser.add_argument("--notice", type=int, default=8, help="seconds, less than the GraceTime of 10")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    head = "warned after, mean | stops | ledger: s lost | predicted: stops | s lost | off by"
    print(f"| {head} | with other draws | not in the ledger |\n|{'---|' * 8}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, (every, blocks) in enumerate(zip(options.every, options.blocks, strict=True)):
            seed, run = (options.seed, number), Path(folder) / f"every-{every:g}"
            happened = try_rate(options.run, run, every, seed, blocks, options)
            for line in rows(happened, dealt(blocks, options.tasks), every, seed, options.notice):
                print(line, flush=True)


if __name__ == "__main__":
    main()
