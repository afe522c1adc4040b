"""python tools/bench_status.py [--shards 10000] [--missing 0] [--queued 0] [--iters 1] [--code DIR ...]

CPU seconds, user and system, of looking at a run with many shards: all of `lt-hpc status`, its start and
its imports included; all of `lt-hpc launch`, which submits what is missing; and of that the call of
`reconcile` alone. Each in fresh processes that take turns, its children's time included. --code names
checkouts whose code does it, all on the same folder.

The run is synthetic: a folder as tasks of the E-step of the last iteration leave it, with manifests, empty
files of the sizes that these say, progress files and a jobs.jsonl; all else of the run up to its E-step is
done. Of the shards, --missing lie spread over all of them, --queued are in the queue, one a task, and the
rest is done. squeue, scontrol and sbatch are scripts that print what a site prints.

--count has each arm run once more under cProfile, and prints how often files are opened and asked for their
size, JSON is read and written, and dataclasses are built.
"""

from __future__ import annotations

import argparse
import cProfile
import dataclasses
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from lt_hpc import cli
from lt_hpc.cluster import names, reconcile
from lt_hpc.cluster.slurm.scheduler import Slurm
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.launch import make_plan
from lt_hpc.run import state
from lt_hpc.run.events import Ended, Event, Submit, Submitted
from lt_hpc.run.plan import Plan
from lt_hpc.store import manifest, shards
from lt_hpc.store.atomic import sealed
from lt_hpc.store.manifest import FileEntry, Manifest
from lt_hpc.store.paths import RunPaths, block_part, shard_folder
from lt_hpc.store.shards import ShardMap

ARMS = ("status", "reconcile", "launch")
ARRAY, RUNNING, FILE_BYTES, BLOCK = 1000, 64, 250_000, 256
COMMANDS = {
    "squeue": "exec cat {queue}",
    "scontrol": 'case "$*" in *ping*) echo "Slurmctld(primary) at here is UP";;'
    ' *config*) echo "MaxArraySize = 1001";; *) echo "PartitionName=main Default=YES State=UP";; esac',
    "sbatch": 'echo "Submitted batch job $$"',
    "scancel": "exit 0",
}
COUNTED = {
    "opened": ("method io.open", "method posix.open"),
    "asked for size": ("posix.stat", "posix.lstat", "posix.fstat"),
    "listed": ("posix.scandir", "posix.listdir"),
    "JSON read": (":raw_decode",),
    "JSON written": (":iterencode",),
    "checksums": ("openssl_sha256",),
    "built": ("<string>:__init__",),
}
"""What is counted -> parts of the names that cProfile has for it."""


@dataclass(frozen=True)
class Sizes:
    """Of a synthetic run."""

    shards: int
    missing: int
    queued: int
    files: int
    iterations: int

    @property
    def overrides(self) -> list[str]:
        return [f"sample.num_shards={self.shards}", f"sample.block_chunks={BLOCK}"]

    def split(self) -> tuple[list[int], list[int], list[int]]:
        """The shards that are done, queued and missing."""
        missing = [(2 * n + 1) * self.shards // (2 * self.missing) for n in range(self.missing)]
        rest = sorted(set(range(self.shards)) - set(missing))
        done = len(rest) - self.queued
        return rest[:done], rest[done:], missing


def plan_of(sizes: Sizes, paths: RunPaths) -> Plan:
    """The plan that a launch of the demo with so many shards makes."""
    return make_plan(load_config(demo_file(), sizes.overrides), sizes.iterations, paths)


def write_run(sizes: Sizes, paths: RunPaths, queue: Path) -> None:
    """The run folder and what squeue says of it. Nothing is fsynced."""
    plan = plan_of(sizes, paths)
    state.pin_plan(paths, plan)
    stage = next(one for one in reversed(plan.stages) if one.name == "sample")
    for other in plan.stages:
        if other.key == stage.key:
            break
        for folder, fingerprint in other.outputs.items() if not other.kind.sharded else ():
            (paths.root / folder).mkdir(parents=True)
            manifest.write(paths.root / folder, Manifest(other.name, fingerprint, True, ()))
    done, queued, _ = sizes.split()
    wanted = ShardMap(stage.fingerprint, sizes.shards * sizes.files * BLOCK, BLOCK, sizes.shards)
    shard_map = shards.pin(paths.root / stage.output, wanted)
    for shard in done:
        write_shard(shard_folder(paths.root / stage.output, shard), shard_map, shard)
    running = queued[:RUNNING]
    at_work = set(running)
    paths.progress("any").parent.mkdir(exist_ok=True)
    for shard in [*done, *running]:
        made = sizes.files // 2 if shard in at_work else sizes.files
        value = {"done": made, "total": sizes.files, "unit": "blocks", "note": "", "first": 0, "spent": 900.0}
        paths.progress(f"{stage.key}.{shard}").write_text(json.dumps(value))
    write_history(plan, stage.key, sizes, paths, queue)


def write_shard(folder: Path, shard_map: ShardMap, shard: int) -> None:
    """A shard that is done, with statistics as sampling writes them."""
    folder.mkdir()
    entries = []
    for block in shard_map.blocks(shard):
        with (folder / block_part(block)).open("wb") as stream:
            stream.truncate(FILE_BYTES)
        counts = {"chunks": BLOCK, "cut_prefixes": 3, "samples": 1024, "sampled_tokens": 41_234, "cut": 17}
        counts |= {"scored_tokens": 123_456, "prompt_tokens": 234_567}
        entries.append(FileEntry(block_part(block), FILE_BYTES, f"{shard:032x}{block:032x}", counts))
    told = ("seconds_load", "seconds_sample", "seconds_score", "sampled_tokens_per_second", "load_share")
    record = Manifest(
        "shard", shard_map.fingerprint(shard), True, tuple(entries), {"chunks": BLOCK * len(entries)}, 900.1,
        {name: 1234.5678 for name in told}, {"host": "node1", "threads": "8", "python": "3.11.7",
        "lt_hpc": "0.2.0", "device": "NVIDIA H200", "driver": "570.86", "cuda": "12.8", "torch": "2.9.0"},
    )  # fmt: skip
    text = json.dumps(sealed(dataclasses.asdict(record)), indent=1)
    (folder / manifest.NAME).write_text(f"{text}\n")


def write_history(plan: Plan, key: str, sizes: Sizes, paths: RunPaths, queue: Path) -> None:
    """jobs.jsonl, and the lines of squeue: tasks of arrays as long as a site usually takes them."""
    done, queued, _ = (set(one) for one in sizes.split())
    stage, run = plan.stage(key), names.run_id(paths)
    events: list[Event] = []
    lines: list[str] = []
    starting = sorted(queued)[:RUNNING]
    for number, first in enumerate(range(0, sizes.shards, ARRAY)):
        job, submission = str(1_000_000 + number), f"{number:08x}"
        tasks = [[shard] for shard in range(first, min(first + ARRAY, sizes.shards))]
        events.append(Submit(submission=submission, stage=key, fingerprint=stage.fingerprint,
                             plan=plan.fingerprint, shards=tasks))  # fmt: skip
        events.append(Submitted(submission=submission, jobs=[job]))
        name = names.job_name(key, paths.root.name, names.identity(run, submission))
        for index, (shard,) in enumerate(tasks):
            if shard in done:
                events.append(Ended(stage=key, code=0, job=f"{job}_{index}", node=f"node{index % 64}"))
            elif shard in queued:
                told = "RUNNING|None" if shard in starting else "PENDING|JobArrayTaskLimit"
                lines.append(f"{job}_{index}|{name}|{told}\n")
    with paths.jobs.open("w") as stream:
        for one in events:
            stream.write(json.dumps({"event": one.event, **dataclasses.asdict(one)}) + "\n")
    queue.write_text("".join(lines))


def commands_of_a_site(folder: Path, queue: Path) -> None:
    """The scripts in place of Slurm's commands."""
    folder.mkdir()
    for name, script in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/sh\n{script.format(queue=queue)}\n")
        (folder / name).chmod(0o755)


def cpu_now() -> float:
    """CPU seconds of this process and its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def command(arm: str, sizes: Sizes, paths: RunPaths) -> list[str]:
    """What a user types, after `lt-hpc`; the last part of launch for reconcile."""
    if arm == "status":
        return ["status", str(paths.root)]
    options = ["--iters", str(sizes.iterations), "--run-dir", str(paths.root), "--cluster", "slurm"]
    return ["launch", *options, *sizes.overrides]


def work(arm: str, sizes: Sizes, paths: RunPaths) -> Callable[[], object]:
    """What an arm does, once all is imported."""
    if arm != "reconcile":
        return lambda: cli.main(command(arm, sizes, paths))
    plan = plan_of(sizes, paths)
    return lambda: reconcile.reconcile(plan, paths, Slurm(paths, lambda arguments: None))


def in_here(arm: str, sizes: Sizes, paths: RunPaths, count: bool) -> dict[str, float]:
    """CPU seconds of an arm in this process, or what is counted."""
    do = work(arm, sizes, paths)
    if not count:
        before = cpu_now()
        do()
        return {"cpu": cpu_now() - before}
    profile = cProfile.Profile()
    profile.runcall(do)
    calls = [(_name(entry.code), entry.callcount) for entry in profile.getstats()]
    return {
        told: sum(number for name, number in calls if any(part in name for part in parts))
        for told, parts in COUNTED.items()
    }


def _name(code: CodeType | str) -> str:
    return code if isinstance(code, str) else f"{code.co_filename}:{code.co_name}"


def fresh(arm: str, code: Path, options: argparse.Namespace, count: bool) -> dict[str, float]:
    """CPU seconds of a process of its own that runs the code of a checkout, or what is counted in it. The run
    is then as it was before."""
    folder: Path = options.folder
    paths, sizes = RunPaths(folder / "run"), sizes_of(options)
    shutil.copy(folder / "jobs.jsonl", paths.jobs)
    shutil.rmtree(paths.slurm, ignore_errors=True)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(code), "PATH": path}
    if arm != "reconcile" and not count:
        before = cpu_now()
        words = [sys.executable, "-m", "lt_hpc.cli", *command(arm, sizes, paths)]
        ended = subprocess.run(words, stdout=subprocess.PIPE, env=environment, cwd=folder, check=False)
        if ended.returncode > 1:  # 1: status of a run with work left to do
            sys.exit(f"{' '.join(words)}: exit code {ended.returncode}")
        return {"cpu": cpu_now() - before}
    words = [sys.executable, __file__, *sys.argv[1:], "--arm", arm, "--folder", str(folder)]
    words += ["--counted"] if count else []
    result = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def report(options: argparse.Namespace) -> None:
    """All arms in turns, and what they took."""
    turns = [(arm, code) for arm in options.arms for code in options.code]
    if options.count:
        print(f"| | code | {' | '.join(COUNTED)} |\n|---|---|{'---|' * len(COUNTED)}")
        for arm, code in turns:
            numbers = fresh(arm, code, options, True).values()
            print(f"| {arm} | {code.name} | {' | '.join(f'{one:,.0f}' for one in numbers)} |", flush=True)
    found: dict[tuple[str, Path], list[float]] = {turn: [] for turn in turns}
    for _ in range(options.repeats):
        for turn in turns:
            found[turn].append(fresh(*turn, options, False)["cpu"])
    print("| | code | CPU s, median (lowest to highest) |\n|---|---|---|")
    for (arm, code), values in found.items():
        median, spread = statistics.median(values), f"{min(values):.2f} to {max(values):.2f}"
        print(f"| {arm} | {code.name} | {median:.2f} ({spread}) |")


def sizes_of(options: argparse.Namespace) -> Sizes:
    return Sizes(options.shards, options.missing, options.queued, options.files, options.iters)


def write(folder: Path, sizes: Sizes) -> None:
    """All that the arms read."""
    folder.mkdir(exist_ok=True)
    write_run(sizes, RunPaths(folder / "run"), folder / "queue")
    shutil.copy(folder / "run" / "jobs.jsonl", folder / "jobs.jsonl")
    commands_of_a_site(folder / "bin", folder / "queue")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--missing", type=int, default=0)
    parser.add_argument("--queued", type=int, default=0)
    parser.add_argument("--files", type=int, default=2, help="of a shard")
    parser.add_argument("--iters", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--arms", nargs="*", default=ARMS, choices=ARMS)
    parser.add_argument("--code", type=Path, nargs="*", default=[Path(__file__).parents[1]])
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the run is, or is put and kept")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--counted", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        paths = RunPaths(options.folder / "run")
        print("\n" + json.dumps(in_here(options.arm, sizes_of(options), paths, options.counted)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        if not (options.folder / "run").exists():
            write(options.folder, sizes_of(options))
        report(options)


if __name__ == "__main__":
    main()
