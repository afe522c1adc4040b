"""The data of an M-step as files: rank 0 makes them once for a model, every rank maps them.

They lie beside the model's checkpoints, so an attempt that goes on finds them there, on whatever number of
ranks, and they are deleted together. The ranks compare their checksums at every start, each those of its
share of the files.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from lt_hpc.errors import Interrupted
from lt_hpc.stages.task import Task
from lt_hpc.stages.train_data import Data, data_of
from lt_hpc.stages.train_steps import Steps, plan_steps
from lt_hpc.store import manifest
from lt_hpc.store.arrays import Arrays, Mapped
from lt_hpc.store.atomic import atomic_folder, clean_temporaries
from lt_hpc.store.manifest import Manifest

if TYPE_CHECKING:
    from lt_hpc.training.protocol import Ranks

FORMAT = 2
"""Of the files; another one is made anew."""
_POLL_SECONDS = 0.05


def shared(task: Task, ranks: Ranks) -> tuple[Data, Steps]:
    """What is trained on and in which steps, of which this process holds no more than a block in memory of
    its own. Every rank calls it.

    Raises:
        IncompleteError: when an input does not verify, or this node does not see the files.
        Interrupted: on all ranks, when one of them is asked to stop.
    """
    folder = task.paths.training_data(task.stage.iteration, task.stage.fingerprint)
    expected = f"{task.stage.fingerprint}-{FORMAT}"
    if not _sound(folder, expected, ranks):
        _make(task, ranks, folder, expected)
    os.listdir(folder.parent)  # makes a network file system look again
    manifest.verified(folder, expected, checksums=False)
    return _all(task, Mapped(folder))


def _all(task: Task, arrays: Arrays) -> tuple[Data, Steps]:
    data = data_of(task, arrays)
    return data, plan_steps(task, data, arrays)


def _sound(folder: Path, expected: str, ranks: Ranks) -> bool:
    os.listdir(folder.parent)
    record = manifest.read(folder)
    sound = (
        record is not None
        and manifest.problem(folder, expected) is None
        and not any(
            manifest.file_problem(folder, entry, checksums=True)
            for entry in record.files[ranks.rank :: ranks.count]
        )
    )
    return not ranks.all_sum(float(not sound))[0]


def _make(task: Task, ranks: Ranks, folder: Path, expected: str) -> None:
    """Rank 0 works in a thread, so that the exchanges with the others, who wait, stay short: those that take
    too long are an error."""
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        work = pool.submit(_write, task, folder, expected, stop) if ranks.rank == 0 else None
        while True:
            finished = work is not None and work.done()
            if work is not None and finished:
                work.result()  # raises what went wrong, before the others are told that there is something
            done, asked = ranks.all_sum(float(finished), float(task.should_stop()))
            if done:
                return
            if asked:
                stop.set()
                raise Interrupted(f"{task.stage.key}: stopped on request before its first step")
            time.sleep(_POLL_SECONDS)


def _write(task: Task, folder: Path, expected: str, stop: threading.Event) -> None:
    def check() -> None:
        if stop.is_set():
            raise Interrupted(f"{task.stage.key}: stopped on request")

    started = time.monotonic()
    clean_temporaries(folder.parent)
    with atomic_folder(folder) as temporary:
        _all(task, Mapped(temporary, making=True, check=check))
        files = tuple(manifest.describe(path) for path in sorted(temporary.iterdir()))
        seconds = time.monotonic() - started
        manifest.write(temporary, Manifest("training data", expected, True, files, seconds=seconds))
    size = sum(entry.bytes for entry in files) / 1e9
    print(f"data of the training: {size:.3g} GB in files, made in {seconds:.0f} s", flush=True)
