"""python tools/bench_memory.py [--tokens 1000000 10000000] [--ranks 2] [--steps 20] [--folder DIR]

What a rank of training holds of its data: the peak of its anonymous memory (what is of no file, so not
shared by way of the page cache) while the data is made ready and the batches of some steps are put together,
against the tokens of the corpus. Each rank is a process of its own, without a model; the first one makes
the files, the others map what is there. "without data" is the same process before.

The documents are synthetic: sixteen chunks of 64 tokens, with a selected thought of about 40 tokens each,
for one epoch in rows of 2048. They are made in a temporary folder, or in DIR. Figures are those of
/proc/self: RssAnon, looked at every 2 ms, and from smaps_rollup what of files is resident at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from lt_hpc.cluster.place import Place
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.config.schema import CORPORA
from lt_hpc.run.build import build_plan
from lt_hpc.run.progress import Progress
from lt_hpc.stages import train_files
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, tables
from lt_hpc.store.atomic import write_json
from lt_hpc.store.lists import column
from lt_hpc.store.manifest import FileEntry, Manifest
from lt_hpc.store.paths import LAYOUT, RunPaths, documents_part, selected_part
from lt_hpc.training.batches import make_batch

CHUNKS, CHUNK_TOKENS, DOCUMENTS, CONTEXT, VOCABULARY = 16, 64, 4096, 2048, 50_000
SETTINGS = [
    f"model.context_length={CONTEXT}", f"train.batch_tokens={64 * CONTEXT}",
    f"warm_start.batch_tokens={CONTEXT}", "train.steps=null", "train.epochs=1",
    "chunking.mode=sentences", "sample.max_thought_tokens=512",
]  # fmt: skip


def task(folder: Path) -> Task:
    """The task of the M-step in a run folder."""
    plan = build_plan(load_config(demo_file(), SETTINGS), 1, {name: name for name in ("model", *CORPORA)})
    progress = Progress(folder / "progress.json")
    return Task(plan, plan.stage("train-01"), RunPaths(folder), Place(), (), progress, lambda: False)


def write_run(of: Task, tokens: int) -> None:
    """All that is read before the first step: the base with its layout, documents, and the selection."""
    paths, plan = of.paths, of.plan
    paths.base.mkdir(parents=True)
    write_json(paths.base / LAYOUT, {"sol": 3, "eol": 4, "prior": 5, "post": 6, "eos": None, "pad": 0})
    manifest.write(paths.base, Manifest("base", plan.output("base"), True, ()))
    rng, documents = np.random.default_rng(0), max(1, tokens // (CHUNKS * CHUNK_TOKENS))
    parts: dict[str, list[FileEntry]] = {"data": [], "selected": []}
    for part, first in enumerate(range(0, documents, DOCUMENTS)):
        count = min(DOCUMENTS, documents - first)
        for role, schema, columns, name in (
            ("data", tables.DOCUMENTS, _documents(first, count, rng), documents_part(part)),
            ("selected", tables.SELECTED, _selected(first, count, rng), selected_part(part)),
        ):
            path = of.folder(role) / name
            with tables.writer(path, schema) as put:
                put(columns)
            counts = {"chunks": count * CHUNKS, "kept": count, "tokens": count * CHUNKS * CHUNK_TOKENS}
            parts[role].append(manifest.describe(path, counts))
    for role, files in parts.items():
        output = plan.output(of.stage.inputs[role])
        manifest.write(of.folder(role), Manifest(role, output, True, tuple(files)))


def _ids(count: int, rng: np.random.Generator) -> np.ndarray:
    """With about the frequencies of words (Zipf)."""
    ids: np.ndarray = np.exp(rng.random(count) * np.log(VOCABULARY)).astype(np.int32) + 7
    return ids


def _documents(first: int, count: int, rng: np.random.Generator) -> dict[str, pa.Array]:
    chunks, rows = count * CHUNKS, np.arange(count + 1)
    none = column(np.zeros(0, np.int32), np.zeros(count + 1))
    return {
        "document": pa.array(np.arange(first, first + count)),
        "first_chunk": pa.array(np.arange(first, first + count) * CHUNKS),
        "context": none,
        "tokens": column(_ids(chunks * CHUNK_TOKENS, rng), rows * CHUNKS * CHUNK_TOKENS),
        "chunk_lengths": column(np.full(chunks, CHUNK_TOKENS, np.int32), rows * CHUNKS),
        "chunk_bytes": column(np.full(chunks, 4 * CHUNK_TOKENS, np.int32), rows * CHUNKS),
        "thoughts": column(column(np.zeros(0, np.int32), np.zeros(1)), np.zeros(count + 1)),
        "hash": pa.array(np.arange(first, first + count)),
    }


def _selected(first: int, count: int, rng: np.random.Generator) -> dict[str, pa.Array]:
    chunks = count * CHUNKS
    ends, start = np.arange(chunks + 1), first * CHUNKS
    lengths = np.clip(rng.lognormal(np.log(40), 0.5, chunks).astype(np.int64), 1, 500)
    edges = np.append(0, np.cumsum(lengths))
    return {
        "chunk": pa.array(np.arange(start, start + chunks)),
        "samples": column(rng.integers(0, 4, chunks).astype(np.int32), ends),
        "thoughts": column(column(_ids(int(edges[-1]), rng), edges), ends),
        "loss_weights": column(np.ones(chunks), ends),
        "log_weights": column(rng.normal(size=chunks), ends),
        "ess": pa.array(np.ones(chunks)),
    }


class _Alone:
    """A rank of a training whose others take no part."""

    rank, count = 0, 1

    def all_sum(self, *values: float) -> list[float]:
        return list(values)


def _anonymous() -> int:
    """Bytes of this process that are of no file."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@contextmanager
def _watched() -> Iterator[list[int]]:
    """Yields the peak of anonymous memory so far, as a list of one."""
    peak, done = [_anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], _anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak[0] = max(peak[0], _anonymous())


def measured(folder: Path, steps: int) -> dict[str, float]:
    """Peak and files of this process, in bytes, and the seconds until its first batch."""
    of, before, started = task(folder), _anonymous(), time.monotonic()
    of.paths.checkpoints(1, of.stage.fingerprint).mkdir(parents=True, exist_ok=True)
    with _watched() as peak:
        _, planned = train_files.shared(of, _Alone())  # type: ignore[arg-type]
        seconds, layout = time.monotonic() - started, of.vocabulary.layout
        chosen = range(0, planned.count, -(-planned.count // steps))
        for step in chosen:
            planned.size(step)
            for packed in planned.of(step):
                make_batch([packed], layout, of.vocabulary.pad, CONTEXT)
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    resident = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in rollup[1:]}
    return {
        "before": before,
        "peak": peak[0],
        "files": resident["Rss"] - resident["Anonymous"],
        "seconds": seconds,
        "steps": len(chosen),
    }


def fresh(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """`measured` in a process of its own."""
    command = [sys.executable, __file__, "--rank", str(folder), "--steps", str(options.steps)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--ranks", type=int, default=2, help="the first of which makes the files")
    parser.add_argument("--steps", type=int, default=20, help="of which batches are made")
    parser.add_argument("--folder", type=Path, help="where the runs are put, and stay")
    parser.add_argument("--rank", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        print(json.dumps(measured(options.rank, options.steps)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        for tokens in options.tokens:
            folder = (options.folder or Path(temporary)) / f"{tokens}"
            if not folder.exists():
                write_run(task(folder), tokens)
            for rank in range(options.ranks):
                found = fresh(folder, options)
                print(
                    f"{tokens:,} tokens, rank {rank}: peak {found['peak'] / 1e6:.0f} MB anonymous "
                    f"({found['before'] / 1e6:.0f} without data), {found['files'] / 1e6:.0f} MB of files "
                    f"mapped and resident, {found['seconds']:.1f} s to the first of {found['steps']} steps",
                    flush=True,
                )


if __name__ == "__main__":
    main()
