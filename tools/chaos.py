"""python tools/chaos.py [--seed S] [--runs N] [--only NUMBER] [--cluster local|slurm] [--workers W]

Random faults on small real runs: launchers and tasks killed, told to stop or frozen at random moments or
at a random call that writes, disks that are full or fail from a random write on, files of a finished or
half-made run flipped, cut off, emptied or deleted, leftovers, second launchers, a clock or times set
back, folders copied and moved; on Slurm also jobs cancelled, requeued, held and preempted. After each
fault the same command is given up to four times, and `status --verify` where the run calls itself done
with other bytes (what that names is made again when something needs it). The run has to end with the
bytes of the undisturbed one (models, samples, selections, metrics) and without temporary files. Prints a
table; the exit code is 1 when a case ended otherwise, with its number: the same seed and --only NUMBER
disturb the same part in the same way again (a moment is the same in seconds, not in what it meets).

local: tasks are forks of one process (tools/disturb/forked.py). slurm: on the cluster of this shell, one at a
time (tools/devcluster.sh), as a user starts them.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, which every fork inherits

import argparse
import functools
import hashlib
import multiprocessing
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tools.disturb.faults import LOCAL, PARTS, SLURM, Bad, Case
from tools.disturb.machines import ForkedMachine, Machine, SlurmMachine

LAUNCHES = 4
NOT_RESULTS = ("manifest.json", "shards.json")


def outputs(run: Path) -> dict[str, str]:
    """SHA-256 of every file that is a result."""
    files = [
        path
        for pattern in ("base", "corpus", "warm", "heldout", "iter-*")
        for folder in run.glob(pattern)
        for path in folder.rglob("*")
        if path.is_file() and path.name not in NOT_RESULTS and ".tmp-" not in str(path)
    ]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass(frozen=True)
class End:
    """How a case ended; a `bad` one is a fault of the project."""

    fault: str
    how: str
    done: str
    seconds: float

    @property
    def bad(self) -> bool:
        return self.how.isupper()


def run_case(machine: Machine, undisturbed: Path, seed: str) -> End:
    """Make a part again, disturb it, launch until it is whole."""
    started, rng = time.monotonic(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        part = rng.choice(list(PARTS))
        case = Case(machine, Path(folder) / "run", rng, PARTS[part].stages)
        shutil.copytree(undisturbed, case.run)
        for name in PARTS[part].folders:
            shutil.rmtree(case.run / name)
        faults = SLURM if isinstance(machine, SlurmMachine) else LOCAL
        fault = rng.choice(list(faults))
        try:
            done = f"{part}: {faults[fault](case).strip()}"
            how, said = healed(case, outputs(undisturbed))
        except Bad as bad:
            done, (how, said) = part, bad.args
        finally:
            machine.clear(case.run)
    seconds = time.monotonic() - started
    return End(fault, how, f"{done}: {said[-900:]}" if how.isupper() else done, seconds)


def healed(case: Case, expected: dict[str, str]) -> tuple[str, str]:
    """(how it ended, what was said last)."""
    helped, said = "", ""
    for launches in range(1, LAUNCHES + 1):
        code, said = case.machine.finish(case.machine.start(case.run))
        if code is None:
            return "HANGS", said
        to_do, told = case.machine.status(case.run)
        if "Traceback" in said + told:
            return "TRACEBACK", said + told
        if "without that file the run goes on" in said:  # settings that may have been edited
            (case.run / "config.yaml").unlink()
            helped = " without config.yaml"
        if to_do:
            continue
        found = outputs(case.run)
        if found == expected:
            left = [str(path) for path in case.run.rglob(".tmp-*") if "somewhere" not in path.name]
            return ("LEFTOVERS", str(left)) if left else (f"equal after {launches}{helped}", "")
        code, told = case.machine.status(case.run, "--verify")
        if code == 3:
            helped = " and --verify"
        elif helped == " and --verify":  # what it named, nothing has needed yet
            helped += ", once needed"
            for folder in case.run.glob("iter-*"):
                shutil.rmtree(folder)
        else:
            different = {key for key in {*found, *expected} if expected.get(key) != found.get(key)}
            return "DIFFERENT", f"{sorted(different)[:4]} {told}"
    return "STUCK", said


def numbered(machine: Machine, undisturbed: Path, seed: int, number: int) -> tuple[int, End]:
    return number, run_case(machine, undisturbed, f"{seed} {number}")


def table(ends: list[End]) -> str:
    """Markdown: how often each fault ended how."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for end in ends:
        groups[end.fault, end.how].append(end.seconds)
    lines = ["| fault | end | cases | median s |", "|---|---|---|---|"]
    lines += [
        f"| {fault} | {how} | {len(times)} | {statistics.median(times):.0f} |"
        for (fault, how), times in sorted(groups.items())
    ]
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--only", type=int, default=None)
    parser.add_argument("--cluster", choices=["local", "slurm"], default="local")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="local cases at a time")
    options = parser.parse_args()
    numbers = range(options.runs) if options.only is None else [options.only]
    ends = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        undisturbed = Path(name) / "undisturbed"
        machine = SlurmMachine() if options.cluster == "slurm" else ForkedMachine(Path(name))
        machine.first(undisturbed)
        workers = options.workers if options.cluster == "local" else 1
        try_one = functools.partial(numbered, machine, undisturbed, options.seed)
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            for number, end in pool.imap_unordered(try_one, numbers):
                ends.append(end)
                print(f"{number}: {end.fault}: {end.how} ({end.done}) in {end.seconds:.0f} s", flush=True)
    print(f"\nseed {options.seed}, {len(ends)} cases, {sum(end.bad for end in ends)} ended badly\n")
    print(table(ends))
    return int(any(end.bad for end in ends))


if __name__ == "__main__":
    sys.exit(main())
