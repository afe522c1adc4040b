"""python tools/bench_merge.py [--chunks 1000000] [--samples 4] [--tokens 40] [--repeats 3] [--folder DIR]

CPU seconds of the stage merge against those of pyarrow reading the same samples and writing the same
selection, in the same run, each in fresh processes that take turns, imports left out. pyarrow reads by
pq.read_table and, as arm pyarrow-files, by pq.ParquetFile without threads, as merge itself does. What SHA-256
of these files takes, which is part of merge, stands apart too. Also merge's peak memory.

The samples are synthetic: thoughts of a lognormal number of tokens with the median --tokens, documents of
three chunks, blocks of --block chunks. They are written once into a temporary folder, or into DIR, which is
kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lt_hpc.cluster.place import Place
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.config.schema import CORPORA
from lt_hpc.run.build import build_plan
from lt_hpc.run.progress import Progress
from lt_hpc.stages import merge
from lt_hpc.stages.shards import part_files
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, shards, tables
from lt_hpc.store.atomic import write_json
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import LAYOUT, RunPaths, block_part, selected_part, shard_folder
from lt_hpc.store.shards import ShardMap

EOL, SHARDS, VOCABULARY = 4, 8, 50_000
ARMS = ("merge", "pyarrow", "pyarrow-files", "checksums")


def task(folder: Path, num_samples: int, overrides: list[str]) -> Task:
    """The task of merge in a run folder."""
    config = load_config(demo_file(), [f"sample.num_samples={num_samples}", *overrides])
    plan = build_plan(config, 1, {name: name for name in ("model", *CORPORA)})
    progress = Progress(folder / "progress.json")
    return Task(plan, plan.stage("merge-01"), RunPaths(folder), Place(), (), progress, lambda: False)


def write_samples(of: Task, num_chunks: int, median_tokens: int, block_chunks: int) -> None:
    """All that merge reads: the base with its layout, and shards of samples with their manifests."""
    paths, plan = of.paths, of.plan
    paths.base.mkdir(parents=True)
    write_json(paths.base / LAYOUT, {"sol": 3, "eol": EOL, "prior": 5, "post": 6, "eos": None, "pad": 0})
    manifest.write(paths.base, Manifest("base", plan.output("base"), True, ()))
    wanted = ShardMap(plan.stage("sample-01").fingerprint, num_chunks, block_chunks, SHARDS)
    shard_map = shards.pin(paths.samples(1), wanted)
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        folder, entries = shard_folder(paths.samples(1), shard), []
        folder.mkdir(parents=True)
        for block in shard_map.blocks(shard):
            path = folder / block_part(block)
            samples = block_of_samples(
                shard_map.chunks(block), plan.config.sample.num_samples, median_tokens, rng
            )
            pq.write_table(samples, path, compression="zstd")
            entries.append(manifest.describe(path))
        manifest.write(folder, Manifest("shard", shard_map.fingerprint(shard), True, tuple(entries)))


def block_of_samples(chunks: range, num_samples: int, median: int, rng: np.random.Generator) -> pa.Table:
    """K thoughts for each of some chunks; ids have about the frequencies of words (Zipf), a twentieth of the
    thoughts is cut."""
    count = len(chunks) * num_samples
    lengths = np.maximum(1, rng.lognormal(np.log(median), 0.5, count).astype(np.int64))
    edges, rows = np.append(0, np.cumsum(lengths)), np.arange(len(chunks) + 1) * num_samples
    ids = np.exp(rng.random(edges[-1]) * np.log(VOCABULARY)).astype(np.int32) + EOL + 1
    ids[edges[1:] - 1] = EOL

    def per_thought(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(rows.astype(np.int32)), values)

    def scores(mean: float) -> pa.Array:
        return per_thought(pa.array(rng.normal(mean, 2.0, count)))

    log_q = scores(-12)
    chunk = np.arange(chunks.start, chunks.stop)
    columns = {
        "chunk": chunk,
        "document": chunk - chunk % 3,
        "thoughts": per_thought(pa.ListArray.from_arrays(pa.array(edges.astype(np.int32)), pa.array(ids))),
        "cut": per_thought(pa.array(rng.random(count) < 0.05)),
        "log_q": log_q,
        "log_prior": scores(-20),
        "log_likelihood": scores(-20),
        "log_proposal": log_q,
        "suffix_length": rng.integers(10, 200, len(chunk)).astype(np.int32),
    }
    return pa.table(columns, tables.SAMPLES)


def cpu_of_merge(of: Task) -> float:
    """CPU seconds of the stage, all of its threads."""
    shutil.rmtree(of.output, ignore_errors=True)
    started = time.process_time()
    merge.run(of)
    return time.process_time() - started


def read_whole(path: Path) -> pa.Table:
    """A table as pyarrow reads a small one with the least work."""
    with pq.ParquetFile(path) as file:
        return file.read(use_threads=False)


def cpu_of_pyarrow(of: Task, read: Callable[[Path], pa.Table]) -> float:
    """CPU seconds of reading every sample and writing the selection, which merge has made before."""
    shard_map, taken = shards.read(of.folder("samples")), 0.0
    assert shard_map is not None
    with tempfile.TemporaryDirectory(dir=of.output.parent) as folder:
        for shard in range(shard_map.num_shards):
            selected = pq.read_table(of.output / selected_part(shard))
            started = time.process_time()
            samples = [read(file) for file in part_files(of.folder("samples"), shard_map, shard)]
            pq.write_table(selected, Path(folder) / "selected.parquet", compression="zstd")
            taken += time.process_time() - started
            del samples
    return taken


def cpu_of_checksums(of: Task) -> float:
    """CPU seconds of the SHA-256 of all files that merge reads or writes."""
    files = [*of.folder("samples").rglob("*.parquet"), *of.output.glob("*.parquet")]
    started = time.process_time()
    for file in files:
        manifest.sha256(file)
    return time.process_time() - started


def measured(arm: str, of: Task) -> dict[str, float]:
    """CPU and wall seconds of an arm, and the peak memory of this process in GB."""
    pa.array([0])  # the first one of a process imports pandas, half a second that is no arm's own
    started = time.perf_counter()
    arms: dict[str, Callable[[Task], float]] = {
        "merge": cpu_of_merge,
        "pyarrow": lambda of: cpu_of_pyarrow(of, pq.read_table),
        "pyarrow-files": lambda of: cpu_of_pyarrow(of, read_whole),
        "checksums": cpu_of_checksums,
    }
    cpu = arms[arm](of)
    wall = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"cpu": cpu, "wall": wall, "peak": peak}


def fresh(arm: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """`measured` in a process of its own."""
    command = [sys.executable, __file__, "--arm", arm, "--folder", str(folder)]
    command += ["--samples", str(options.samples), *options.overrides]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def report(folder: Path, options: argparse.Namespace) -> None:
    """All arms in turns, and what they took."""
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for _ in range(options.repeats):
        for arm in ARMS:
            found[arm].append(fresh(arm, folder, options))
    cpu = {arm: [one["cpu"] for one in runs] for arm, runs in found.items()}
    for arm, values in cpu.items():
        print(f"{arm:13} {statistics.median(values):.2f} CPU s ({min(values):.2f} to {max(values):.2f})")
    bare = [own - hashed for own, hashed in zip(cpu["merge"], cpu["checksums"], strict=True)]
    for name, own in (("merge", cpu["merge"]), ("merge without checksums", bare)):
        for arm in ("pyarrow", "pyarrow-files"):
            ratios = [one / other for one, other in zip(own, cpu[arm], strict=True)]
            print(f"{name} / {arm}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    runs = found["merge"]
    wall, peak = statistics.median(one["wall"] for one in runs), max(one["peak"] for one in runs)
    print(
        f"{options.chunks / statistics.median(cpu['merge']):,.0f} chunks per CPU second, "
        f"{wall:.1f} s, peak {peak:.2f} GB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=40, help="median length of a thought")
    parser.add_argument("--block", type=int, default=512, help="chunks of a file")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where samples are, or are put")
    parser.add_argument("--arm", choices=ARMS, help="measure this one alone, on samples that are there")
    parser.add_argument("overrides", nargs="*", help="settings, such as merge.select=weighted")
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(measured(options.arm, task(options.folder, options.samples, options.overrides))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / "run"
        of = task(folder, options.samples, options.overrides)
        if not folder.exists():
            write_samples(of, options.chunks, options.tokens, options.block)
        report(folder, options)


if __name__ == "__main__":
    main()
