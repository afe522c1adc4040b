"""What tools/chaos.py does to a run."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.disturb.forked import Strike
from tools.disturb.machines import ForkedMachine, Machine, SlurmMachine

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE)


@dataclass(frozen=True)
class Part:
    """What of a run is made again, so that its making is disturbed: folders that are deleted first, and the
    stages that this asks for."""

    folders: tuple[str, ...]
    stages: tuple[str, ...]


STAGES = ("evaluate-01", "train-01", "merge-01", "sample-01", "evaluate-00", "train-00", "prepare")
FOLDERS = ("iter-01/eval", "iter-01/model", "iter-01/selected")
PARTS = {
    "nothing": Part((), ()),
    "evaluation": Part(FOLDERS[:1], STAGES[:1]),
    "training": Part(FOLDERS[:2], STAGES[:2]),
    "merge": Part(FOLDERS, STAGES[:3]),
    "one shard": Part((*FOLDERS, "iter-01/samples/shard-00001"), STAGES[:4]),
    "sampling": Part(("iter-01",), STAGES[:4]),
    "warm start": Part(("iter-00", "iter-01"), STAGES[:6]),
    "all": Part(("base", "corpus", "warm", "heldout", "iter-00", "iter-01"), STAGES),
}


class Bad(Exception):
    """Something that must not happen did: what (in capitals), and more about it."""


@dataclass
class Case:
    """One run that is disturbed once."""

    machine: Machine
    run: Path
    rng: random.Random
    stages: tuple[str, ...]

    def wait(self) -> float:
        """Seconds until a random moment of the making of the part, waited for."""
        seconds = self.rng.uniform(0.05, self.machine.stage_seconds * (len(self.stages) + 0.5))
        time.sleep(seconds)
        return seconds

    def alive(self) -> list[int]:
        return self.machine.processes(self.run)


def signalled(number: int, everyone: bool) -> Callable[[Case], str]:
    """A signal to one or all of a run's processes, at a random moment of its work."""

    def fault(case: Case) -> str:
        process = case.machine.start(case.run)
        moment = case.wait()
        alive = case.alive()
        if alive:
            for pid in alive if everyone else [case.rng.choice(alive)]:
                send(pid, number)
            if number == signal.SIGSTOP:
                time.sleep(1)
                for pid in alive:
                    send(pid, signal.SIGCONT)
        code, _ = case.machine.finish(process)
        return f"after {moment:.1f} s, {len(alive)} processes, exit {code}"

    return fault


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def struck(make: Callable[[random.Random, str, int], Strike]) -> Callable[[Case], str]:
    """Something happens at a random one of all the calls that the undisturbed run writes with."""

    def fault(case: Case) -> str:
        assert isinstance(case.machine, ForkedMachine)
        stages = {"launch", *case.stages}
        process = case.rng.choice([one for one in case.machine.calls if one.split(".")[0] in stages])
        strike = make(case.rng, process, case.rng.randint(1, case.machine.calls[process]))
        code, _ = case.machine.finish(case.machine.start(case.run, strike))
        return f"{strike}, exit {code}"

    return fault


def broken(damage: Callable[[Path, random.Random], object]) -> Callable[[Case], str]:
    """A random file of the run as it lies there is damaged."""

    def fault(case: Case) -> str:
        kinds: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(case.run.rglob("*")):
            if path.is_file() and path.name != "launch.lock":
                kinds[f"{path.parent.name.split('-')[0]}/{path.name.split('-')[0]}"].append(path)
        chosen = case.rng.choice(kinds[case.rng.choice(sorted(kinds))])
        damage(chosen, case.rng)
        return str(chosen.relative_to(case.run))

    return fault


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def second_launcher(case: Case) -> str:
    jobs = case.run / "jobs.jsonl"
    before = len(jobs.read_text().splitlines())
    processes = [case.machine.start(case.run) for _ in range(case.rng.randrange(2, 5))]
    ends = [case.machine.finish(process)[0] for process in processes]
    happened = map(json.loads, jobs.read_text().splitlines()[before:])
    submitted: Counter[str] = Counter()
    for event in happened:
        if event["event"] == "submit":
            shards = [shard for task in event["shards"] for shard in task] or [""]
            submitted.update(f"{event['stage']} {shard}" for shard in shards)
    twice = [work for work, count in submitted.items() if count > 1]
    if twice:
        raise Bad("DOUBLE", f"{twice} by {len(processes)} at once")
    return f"{len(processes)} at once: {ends}"


def times_set_back(case: Case) -> str:
    for path in case.run.rglob("*"):
        os.utime(path, (1e9, 1e9 + case.rng.randrange(1000)))
    return ""


def clock_set_back(case: Case) -> str:
    seconds = -(10 ** case.rng.uniform(1, 8))
    assert isinstance(case.machine, ForkedMachine)
    process = case.machine.start(case.run, clock_seconds=seconds)
    case.wait()
    for pid in case.alive():
        send(pid, signal.SIGTERM)
    case.machine.finish(process)
    return f"{seconds:.0f} s, and stopped"


def leftovers(case: Case) -> str:
    for folder in [case.run, *(path for path in case.run.rglob("*") if path.is_dir())]:
        (folder / ".tmp-base.somewhere-999999-abc").write_bytes(b"half")
    return ""


def copied(case: Case) -> str:
    before = case.run.with_name("before")
    shutil.move(case.run, before)
    shutil.copytree(before, case.run, copy_function=shutil.copy)
    shutil.rmtree(before)
    return ""


def moved(case: Case) -> str:
    shutil.move(case.run, case.run.with_name("moved"))
    case.run = case.run.with_name("moved")
    return ""


def kill_at(rng: random.Random, process: str, number: int) -> Strike:
    return Strike(process, number, kill=signal.SIGKILL, after=rng.random() < 0.5)


def stop_at(rng: random.Random, process: str, number: int) -> Strike:
    return Strike(process, number, kill=rng.choice((signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)))


def fail_at(rng: random.Random, process: str, number: int) -> Strike:
    return Strike(process, number, error=rng.choice(ERRORS), stays=rng.random() < 0.5)


EVERYWHERE: dict[str, Callable[[Case], str]] = {
    "KILL all": signalled(signal.SIGKILL, True),
    "KILL one": signalled(signal.SIGKILL, False),
    "TERM all": signalled(signal.SIGTERM, True),
    "TERM one": signalled(signal.SIGTERM, False),
    "INT all": signalled(signal.SIGINT, True),
    "USR2 one": signalled(signal.SIGUSR2, False),
    "STOP, CONT": signalled(signal.SIGSTOP, True),
    "flip": broken(flip),
    "cut off": broken(lambda path, rng: os.truncate(path, rng.randrange(path.stat().st_size + 1))),
    "emptied": broken(lambda path, rng: path.write_bytes(b"")),
    "other JSON": broken(lambda path, rng: path.write_text('{"a": [1]}\n')),
    "deleted": broken(lambda path, rng: path.unlink()),
    "launchers": second_launcher,
    "times": times_set_back,
    "leftovers": leftovers,
    "copied": copied,
    "moved": moved,
}
LOCAL = {
    **EVERYWHERE,
    "KILL at a write": struck(kill_at),
    "stop at a write": struck(stop_at),
    "error at a write": struck(fail_at),
    "clock": clock_set_back,
}


def on_jobs(act: Callable[[SlurmMachine, list[str], random.Random], str]) -> Callable[[Case], str]:
    """Something is done to jobs of the queue, at a random moment."""

    def fault(case: Case) -> str:
        assert isinstance(case.machine, SlurmMachine)
        process = case.machine.start(case.run)
        case.wait()
        done = act(case.machine, case.machine.jobs(), case.rng)
        case.machine.finish(process)
        return done

    return fault


def command_on_one(*command: str) -> Callable[[Case], str]:
    def act(machine: SlurmMachine, jobs: list[str], rng: random.Random) -> str:
        if not jobs:
            return "nothing in the queue"
        return machine.tell(*command, rng.choice(jobs))

    return on_jobs(act)


SLURM = {
    **EVERYWHERE,
    "scancel one": command_on_one("scancel"),
    "requeue one": command_on_one("scontrol", "requeue"),
    "hold one": command_on_one("scontrol", "hold"),
    "preempted": on_jobs(lambda machine, jobs, rng: machine.preempt()),
    "scancel all": on_jobs(
        lambda machine, jobs, rng: " ".join(machine.tell("scancel", *jobs)) if jobs else ""
    ),
}
