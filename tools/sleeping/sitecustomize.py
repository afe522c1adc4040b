"""In place of the E-step, for tools/check_simulation.py: a task that sleeps where it would load and sample,
and keeps its blocks as the real one does. Python reads it where this folder is on PYTHONPATH."""

import os
import sys
import time
import types
from typing import Any


def run(task: Any) -> None:
    """Blocks of a chunk, each of SLEEP_BLOCK seconds, after SLEEP_LOAD seconds."""
    from lt_hpc.stages.shards import missing_blocks

    sleep(task, float(os.environ["SLEEP_LOAD"]))
    for block in missing_blocks(task, int(os.environ["SLEEP_CHUNKS"]), 1):
        sleep(task, float(os.environ["SLEEP_BLOCK"]))
        block.path.write_text("slept")
        block.commit({"chunks": 1})


def sleep(task: Any, seconds: float) -> None:
    """And note when it is warned of its end, in RUN/warned/JOB.RESTART."""
    note = task.paths.root / "warned" / f"{task.place.job}.{task.place.restart}"
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
        if task.should_stop() and not note.exists():
            note.parent.mkdir(exist_ok=True)
            note.write_text(str(time.time()))


stage = types.ModuleType("lt_hpc.stages.sample")
stage.run = run  # type: ignore[attr-defined]
sys.modules[stage.__name__] = stage
