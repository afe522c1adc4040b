"""python tools/check_simulation.py RUN [--every 20 40 80] [--notice 8] [--blocks 120] [--seed 0]

Whether tools/simulate_queue.py says what is lost on a real Slurm: for each rate, a copy of RUN (of which
iteration 0 is made, `lt-hpc launch --iters 0`) has its E-step preempted at random, each job after an
exponential time at work with this mean in seconds, and what its ledger has as lost stands beside what is
simulated. For the cluster of this shell, `eval "$(bash tools/devcluster.sh up)"`, which nothing else may use
meanwhile.

The tasks sleep where they would load a model and sample (tools/sleeping), so that what is compared is the
work of Slurm, of signals, of requeues and of the ledger, whatever else the machine does; a node has one task.
A job of the partition `high` takes a node away for a moment.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lt_hpc.run import events, state
from lt_hpc.run.events import Event, Submit
from lt_hpc.store.paths import RunPaths
from tools.preemption import Work, dealt
from tools.simulate_queue import beside, measured

ROOT = Path(__file__).parents[1]
STAGE, SHARDS, LOAD, BLOCK = "sample-01", 4, 4.0, 5.0


def tell(*command: str) -> str:
    """Output of a command."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def launch(run: Path, notice: int, blocks: int) -> None:
    """Submit the chain of a run whose E-step sleeps."""
    variables = f"SLEEP_LOAD={LOAD} SLEEP_BLOCK={BLOCK} SLEEP_CHUNKS={blocks}"
    asleep = f"export {variables} PYTHONPATH={ROOT}/tools/sleeping:{ROOT}"
    setup = f"case $SLURM_JOB_NAME in sample*) {asleep};; esac"
    tell(
        *(sys.executable, "-m", "lt_hpc.launch", "--cluster", "slurm", "--iters", "1", "--run-dir", str(run)),
        *("--profile", str(ROOT / "configs" / "cluster" / "devcluster.yaml"), f'slurm.setup=["{setup}"]'),
        *(f"slurm.signal_seconds={notice}", f"sample.num_shards={SHARDS}", "sample.block_chunks=1"),
        *("slurm.sample.cpus_per_task=4", f"slurm.array_parallelism={SHARDS}"),
    )


def jobs(run: Path) -> list[tuple[str, str, str]]:
    """Id, state and node of each array task of the E-step in the queue."""
    made = {one.submission for one in events.of_kind(RunPaths(run), Submit) if one.stage == STAGE}
    lines = tell("squeue", "-h", "-r", "-o", "%i|%T|%N|%j").splitlines()
    found = [line.split("|", 3) for line in lines]
    return [(job, state, node) for job, state, node, name in found if name.rpartition("-")[2] in made]


def preempt(run: Path, every: float, seed: int) -> None:
    """Preempt jobs of the E-step at random, until none is left."""
    draws, due = random.Random(seed), dict[str, float]()
    while found := jobs(run):
        now = time.monotonic()
        running = {job: node for job, state, node in found if state == "RUNNING"}
        due = {job: due.get(job, now + draws.expovariate(1 / every)) for job in running}
        for job, node in running.items():
            if now >= due[job]:
                due[job] = float("inf")  # until it has left
                asked = ["--partition=high", f"--nodelist={node}", "--exclusive", "--output=/dev/null"]
                tell("sbatch", *asked, "--wrap=sleep 1")
        time.sleep(0.2)


def compared(source: Path, folder: Path, every: float, options: argparse.Namespace) -> str:
    """What came of one rate, in a line."""
    run = folder / f"every-{every:g}"
    shutil.copytree(source, run, ignore=shutil.ignore_patterns("iter-0[1-9]", "progress"))
    before = len(events.read(RunPaths(run)))
    launch(run, options.notice, options.blocks)
    preempt(run, every, options.seed)
    tell("scancel", "--me")  # what would merge nothing
    happened: list[Event] = events.read(RunPaths(run))[before:]
    found = measured(state.last_plan(RunPaths(run)), happened, sharded=True)
    if found is None:
        raise SystemExit(f"{run}: no task of the E-step has recorded anything; see {run}/slurm")
    work, seeds = Work(found.seconds, found.load, options.notice), [(options.seed, n) for n in range(200)]
    return beside(found, dealt(options.blocks, SHARDS), work, seeds, every)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--every", type=float, nargs="+", default=[20.0, 40.0, 80.0], metavar="SECONDS")
    parser.add_argument("--notice", type=int, default=8, help="seconds, less than the GraceTime of 10")
    parser.add_argument("--blocks", type=int, default=120, help="of all tasks together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for every in options.every:
            print(compared(options.run, Path(folder), every, options), flush=True)


if __name__ == "__main__":
    main()
