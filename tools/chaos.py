"""python tools/chaos.py [--seed S] [--runs N] [--only NUMBER] [--cluster local|slurm]

Random faults on small real runs: launchers and tasks killed, told to stop or frozen at random moments, files
of a finished or half-made run flipped, cut off, emptied or deleted, leftovers, a second launcher, times set
back, copied folders. After each fault the same command is given up to four times. The run has to end with the
bytes of the undisturbed one (models, samples, selections, metrics), or a message has to name the one command
that helps. Prints a table; the exit code is 1 when a case ended otherwise, with its number: the same seed and
--only NUMBER make it again.

--cluster slurm launches on the cluster of this shell (tools/devcluster.sh).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SETTINGS = [
    "--iters=1", "corpus.num_documents=24", "warm.num_documents=16", "heldout.num_documents=6",
    "sample.num_samples=2", "sample.block_chunks=4", "sample.num_shards=3", "warm_start.steps=4",
    "warm_start.checkpoint_steps=2", "train.steps=4", "train.checkpoint_steps=2", "local.train_ranks=1",
    "evaluate.num_samples=1",
]  # fmt: skip
LAUNCHES = 4
PARTS = {  # what is deleted of the undisturbed run before a case, so that its making is disturbed
    "evaluation": ["iter-01/eval"],
    "training": ["iter-01/eval", "iter-01/model"],
    "merge": ["iter-01/eval", "iter-01/model", "iter-01/selected"],
    "sampling": ["iter-01"],
    "warm start": ["iter-00", "iter-01"],
}


@dataclass(frozen=True)
class Machine:
    """How a run is launched here."""

    cluster: str
    profile: tuple[str, ...]

    def start(self, run: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "lt_hpc.launch", "--run-dir", str(run), *SETTINGS]
        return subprocess.Popen(
            [*command, f"--cluster={self.cluster}", *self.profile],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Exit code and output, once nothing of the launch is at work."""
        output, _ = process.communicate()
        while (
            self.cluster == "slurm"
            and subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout.strip()
        ):
            time.sleep(0.5)
        return process.returncode, output


def outputs(run: Path) -> dict[str, str]:
    """SHA-256 of every file that is a result."""
    files = [
        path
        for pattern in ("base", "corpus", "warm", "heldout", "iter-*")
        for folder in run.glob(pattern)
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("manifest.json", "shards.json") and ".tmp-" not in str(path)
    ]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def own_processes(run: Path) -> list[int]:
    """Launcher and tasks of a run on this machine."""
    found = subprocess.run(["pgrep", "-f", str(run)], capture_output=True, text=True, check=False).stdout
    return [int(pid) for pid in found.split() if int(pid) != os.getpid()]


def kill(run: Path, rng: random.Random, number: int, everyone: bool) -> None:
    for pid in own_processes(run) if everyone else rng.sample(own_processes(run), 1):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def signalled(number: int, everyone: bool) -> Callable[[Machine, Path, random.Random], str]:
    """A fault: a signal to one or all of a run's processes, at a random moment of its work."""

    def fault(machine: Machine, run: Path, rng: random.Random) -> str:
        process = machine.start(run)
        moment = rng.uniform(0.5, 12.0)
        time.sleep(moment)
        if process.poll() is None and own_processes(run):
            kill(run, rng, number, everyone)
            if number == signal.SIGSTOP:
                time.sleep(1)
                kill(run, rng, signal.SIGCONT, True)
        machine.finish(process)
        return f"after {moment:.1f} s"

    return fault


def broken(damage: Callable[[Path, random.Random], None]) -> Callable[[Machine, Path, random.Random], str]:
    """A fault: a random file of the run as it lies there is damaged."""

    def fault(machine: Machine, run: Path, rng: random.Random) -> str:
        files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != "launch.lock")
        chosen = rng.choice(files)
        damage(chosen, rng)
        return str(chosen.relative_to(run))

    return fault


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def second_launcher(machine: Machine, run: Path, rng: random.Random) -> str:
    processes = [machine.start(run) for _ in range(rng.randrange(2, 5))]
    ends = [machine.finish(process)[0] for process in processes]
    return f"{len(processes)} at once: {sorted(ends)}"


def times_set_back(machine: Machine, run: Path, rng: random.Random) -> str:
    for path in run.rglob("*"):
        os.utime(path, (1e9, 1e9 + rng.randrange(1000)))
    return ""


def leftovers(machine: Machine, run: Path, rng: random.Random) -> str:
    for folder in [run, *(path for path in run.rglob("*") if path.is_dir())]:
        (folder / ".tmp-base.somewhere-999999-abc").write_bytes(b"half")
    return ""


def copied(machine: Machine, run: Path, rng: random.Random) -> str:
    moved = run.with_name("before")
    shutil.move(run, moved)
    shutil.copytree(moved, run, copy_function=shutil.copy)
    shutil.rmtree(moved)
    return ""


FAULTS: dict[str, Callable[[Machine, Path, random.Random], str]] = {
    "KILL all": signalled(signal.SIGKILL, True),
    "KILL one": signalled(signal.SIGKILL, False),
    "TERM all": signalled(signal.SIGTERM, True),
    "TERM one": signalled(signal.SIGTERM, False),
    "INT all": signalled(signal.SIGINT, True),
    "USR2 one": signalled(signal.SIGUSR2, False),
    "STOP, CONT": signalled(signal.SIGSTOP, True),
    "flip": broken(flip),
    "cut off": broken(lambda path, rng: os.truncate(path, rng.randrange(path.stat().st_size + 1))),
    "emptied": broken(lambda path, rng: path.write_bytes(b"") and None),
    "other JSON": broken(lambda path, rng: path.write_text('{"a": [1]}\n') and None),
    "deleted": broken(lambda path, rng: path.unlink()),
    "launchers": second_launcher,
    "times": times_set_back,
    "leftovers": leftovers,
    "copied": copied,
}


def case(machine: Machine, undisturbed: Path, folder: Path, rng: random.Random) -> tuple[str, str, str]:
    """(fault, how it ended, what was done)."""
    run = folder / "run"
    shutil.copytree(undisturbed, run)
    part = rng.choice(list(PARTS))
    for name in PARTS[part]:
        shutil.rmtree(run / name)
    name = rng.choice(list(FAULTS))
    done = f"{part}: {FAULTS[name](machine, run, rng)}"
    expected = outputs(undisturbed)
    output = ""
    for launches in range(1, LAUNCHES + 1):
        code, output = machine.finish(machine.start(run))
        if "Traceback" in output:
            return name, "TRACEBACK", f"{done}: {output[-700:]}"
        if code == 0 and outputs(run) == expected:
            return name, f"equal after {launches}", done
        if code == 0 and machine.cluster == "local":
            different = {key for key, value in outputs(run).items() if expected.get(key) != value}
            different |= expected.keys() - outputs(run).keys()
            verified = subprocess.run(
                [sys.executable, "-m", "lt_hpc.status", "--verify", str(run)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if verified.returncode == 3:
                return name, "named by status --verify", f"{done}: {verified.stdout.splitlines()[-1]}"
            return name, "DIFFERENT", f"{done}: {sorted(different)[:4]}"
    return name, "STUCK", f"{done}: {output[-500:]}"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--only", type=int, default=None)
    parser.add_argument("--cluster", choices=["local", "slurm"], default="local")
    options = parser.parse_args()
    profile = Path(__file__).parents[1] / "configs" / "cluster" / "devcluster.yaml"
    slurm = ("--profile", str(profile), "slurm.train.tasks_per_node=1", "slurm.train.nodes=1")
    machine = Machine(options.cluster, slurm if options.cluster == "slurm" else ())
    table: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        undisturbed = Path(name) / "undisturbed"
        code, output = machine.finish(machine.start(undisturbed))
        if code:
            sys.exit(output)
        for number in range(options.runs) if options.only is None else [options.only]:
            started = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                rng = random.Random(f"{options.seed} {number}")
                fault, end, done = case(machine, undisturbed, Path(folder), rng)
            table[fault, end] += 1
            print(f"{number}: {fault}: {end} ({done}) in {time.monotonic() - started:.0f} s", flush=True)
    print()
    for (fault, end), count in sorted(table.items()):
        print(f"{fault:12} {count:4}  {end}")
    return int(any(end.isupper() for _, end in table))


if __name__ == "__main__":
    sys.exit(main())
