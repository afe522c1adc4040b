"""python tools/bench_prepare.py [--tokens 3000000] [--words 20000] [--processes 1 2] [--shards 2] ...

Tokens per second of the stage prepare, and its peak memory, by the number of processes that tokenise
(OMP_NUM_THREADS), in the same run, in turns, each on a fresh folder beside a base model that is there; and of
an array of --shards tasks (tokenise) of one process each, all at once, and of what gathers its parts of 4,096
documents. Wall seconds mean something on idle cores alone; CPU seconds, of all processes, say what the
processes cost. Memory: VmHWM of the first process and of the largest other one, with mapped files such as
libraries.

The documents are of --words words each, half of which are made up, in sentences of about twelve.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lt_hpc.cluster.place import Place
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.launch import make_plan
from lt_hpc.run.progress import Progress
from lt_hpc.stages import gather, prepare, tokenise
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest
from lt_hpc.store.paths import RunPaths

COMMON = ["the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "as", "with", "his"]


def write_documents(path: Path, number: int, words: int) -> None:
    """JSON lines of synthetic prose."""
    rng, letters = np.random.default_rng(0), np.array(list("etaoinshrdlu"))
    with path.open("w") as file:
        for _ in range(number):
            lengths = rng.integers(3, 10, words)
            spelled = "".join(letters[rng.integers(0, 12, int(lengths.sum()))])
            ends = np.append(0, np.cumsum(lengths)).tolist()
            made = (spelled[first:last] for first, last in itertools.pairwise(ends))
            common = rng.random(words) < 0.5
            picked = rng.integers(0, len(COMMON), words)
            text = [COMMON[k] if c else w for c, k, w in zip(common, picked, made, strict=True)]
            stops = rng.random(words) < 1 / 12
            json.dump({"text": " ".join(w + "." if s else w for w, s in zip(text, stops, strict=True))}, file)
            file.write("\n")


def task(folder: Path, source: str, model: str, key: str, *more: str) -> Task:
    """The task of a stage, whose other corpora are small."""
    small = ["warm.num_documents=8", "heldout.num_documents=8", "chunking.mode=sentences"]
    own = [f"corpus.source={source}", "corpus.num_documents=null", f"model.path={model}"]
    room = ["model.context_length=1024", "sample.max_thought_tokens=512", "chunking.max_chunk_tokens=256"]
    rows = [f"{section}.batch_tokens=1024" for section in ("train", "warm_start")]
    paths = RunPaths(folder / "run")
    plan = make_plan(load_config(demo_file(), [*small, *own, *room, *rows, *more]), 1, paths)
    return Task(plan, plan.stage(key), paths, Place(), (), Progress(folder / "p.json"), lambda: False)


def measured(folder: Path, source: str, model: str, shards: int) -> dict[str, float]:
    """Of the stage in this process, or of so many shards in processes of their own: tokens, wall seconds to
    tokenise and to gather, peak bytes."""
    of = task(folder, source, model, "prepare", f"prepare.num_shards={max(1, shards)}")
    for name in ("corpus", "warm", "heldout", "tokenised"):
        shutil.rmtree(of.paths.documents(name), ignore_errors=True)
    if shards:
        prepare.run(of)  # the small corpora
    started = arrayed = time.monotonic()
    if shards:
        command = [sys.executable, __file__, "--measure", str(folder), source, "--model", model]
        of_shard = [[*command, "--shard", str(n), "--shards", str(shards)] for n in range(shards)]
        begun = [subprocess.Popen(one) for one in of_shard]
        assert not any([one.wait() for one in begun])
        arrayed = time.monotonic()
        gather.run(task(folder, source, model, "gather-00", f"prepare.num_shards={shards}"))
    else:
        prepare.run(of)
        arrayed = time.monotonic()
    ended = time.monotonic()
    record = manifest.read(of.paths.documents("corpus"))
    assert record is not None
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "tokens": record.counts["tokens"],
        "seconds": arrayed - started,
        "gathered": ended - arrayed,
        "peak": usage[0].ru_maxrss * 1024,
        "others": usage[1].ru_maxrss * 1024,
    }


def fresh(folder: Path, source: Path, model: str, processes: int, shards: int = 0) -> dict[str, float]:
    """`measured` in a process of its own, with the CPU seconds of it and all that it started."""
    command = [sys.executable, __file__, "--measure", str(folder), str(source), "--model", model]
    command += ["--shards", str(shards)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": str(processes)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found | {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, default=3_000_000, help="about as many words")
    parser.add_argument("--words", type=int, default=20_000, help="of a document")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shards", type=int, nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="models/smollm2-135m")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--shard", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        folder, source, shards = Path(options.measure[0]), options.measure[1], max(options.shards)
        if options.shard is None:
            print(json.dumps(measured(folder, source, options.model, shards)))
        else:
            of = task(folder, source, options.model, "tokenise-00", f"prepare.num_shards={shards}")
            tokenise.run(dataclasses.replace(of, shards=(options.shard,)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, source, little = (Path(temporary) / name for name in ("run", "big.jsonl", "little.jsonl"))
        write_documents(source, max(1, options.tokens // options.words), options.words)
        write_documents(little, 8, 50)
        fresh(folder, little, options.model, 1)  # makes the base
        arms = {f"{number} processes": (number, 0) for number in options.processes}
        arms |= {f"{number} shards": (1, number) for number in options.shards}
        found: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
        for _ in range(options.repeats):
            for arm, (processes, shards) in arms.items():
                found[arm].append(fresh(folder, source, options.model, processes, shards))
        for arm, runs in found.items():
            speeds = [one["tokens"] / one["seconds"] for one in runs]
            cpu = statistics.median(one["cpu"] / one["tokens"] * 1e6 for one in runs)
            peaks = [max(one[name] for one in runs) / 1e6 for name in ("peak", "others")]
            gathered = statistics.median(one["gathered"] for one in runs)
            print(
                f"{arm}: {runs[0]['tokens']:,.0f} tokens, {statistics.median(speeds):,.0f} a "
                f"second ({min(speeds):,.0f} to {max(speeds):,.0f}), {cpu:.2f} CPU s a million tokens, peak "
                f"{peaks[0]:.0f} MB, {peaks[1]:.0f} MB of another process, {gathered:.1f} s to gather",
                flush=True,
            )


if __name__ == "__main__":
    main()
