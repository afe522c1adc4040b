"""A whole small run through the launch command, stopped in the middle of sampling and of training."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.gpu_check.rows import Row, Sizes, verdict

SETTINGS = [
    "--iters=1", "--cluster=local", "corpus.num_documents=96", "warm.num_documents=64",
    "heldout.num_documents=24", "sample.num_samples=4", "sample.block_chunks=8", "sample.num_shards=1",
    "warm_start.steps=20", "train.steps=60", "train.checkpoint_steps=5", "local.train_ranks=1",
    "local.processes=1", "local.threads=4",
]  # fmt: skip
INTERRUPTED = 75


def launch(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Exit code 75 on TERM, everything kept, and the finished run beside an undisturbed one."""
    missing = [name for name in ("deepspeed", "omegaconf", "datasets") if not importlib.util.find_spec(name)]
    if missing:
        yield Row("launch", "skipped", f"not installed: {', '.join(missing)}")
        return
    stopped, whole = folder / "stopped", folder / "whole"
    for what, reached in (("sampling", _sampling(stopped)), ("training", _training(stopped))):
        yield _launch(f"TERM while {what}", stopped, INTERRUPTED, reached)
    yield _launch("launched again", stopped, 0)
    yield _launch("undisturbed", whole, 0)
    yield _compare(whole, stopped)


def _launch(what: str, run: Path, expected: int, stop_when: Callable[[], bool] | None = None) -> Row:
    """The launch command, stopped by TERM once `stop_when` holds; its exit code must be the expected."""
    started, log = time.monotonic(), run.parent / f"{run.name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "lt_hpc.launch", "--run-dir", str(run), *SETTINGS],
            stdout=output, stderr=subprocess.STDOUT, env=dict(os.environ), start_new_session=True,
        )  # fmt: skip
    while stop_when and process.poll() is None and not stop_when():
        time.sleep(0.05)
    if stop_when:
        process.send_signal(signal.SIGTERM)
    code = process.wait()
    text = f"exit code {code} after {time.monotonic() - started:.0f} s"
    return verdict(what, code == expected, text, output=log.read_text()[-3000:])


def _sampling(run: Path) -> Callable[[], bool]:
    """Whether a block of samples is there."""
    return lambda: any(run.glob("iter-01/samples/**/*.parquet"))


def _training(run: Path) -> Callable[[], bool]:
    """Whether a checkpoint of iteration 1 is there."""
    return lambda: any(run.glob("iter-01/checkpoints/**/*.safetensors"))


def _compare(whole: Path, stopped: Path) -> Row:
    """Nothing promises equal bytes on a GPU: how far the two runs agree is told, not judged."""
    blocks = sorted(whole.glob("iter-01/samples/**/*.parquet"))
    others = [stopped / path.relative_to(whole) for path in blocks]
    same = sum(b.exists() and a.read_bytes() == b.read_bytes() for a, b in zip(blocks, others, strict=True))
    metrics = [run / "iter-01" / "eval" / "metrics.json" for run in (whole, stopped)]
    figures = [json.loads(path.read_text()) if path.exists() else {} for path in metrics]
    return Row(
        "stopped against undisturbed",
        "measured",
        f"{same} of {len(blocks)} blocks of samples have the same bytes",
        {"whole": figures[0], "stopped": figures[1]},
    )
