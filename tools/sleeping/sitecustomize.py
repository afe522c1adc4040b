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

    load, block_seconds = float(os.environ["SLEEP_LOAD"]), float(os.environ["SLEEP_BLOCK"])
    time.sleep(load)
    for block in missing_blocks(task, int(os.environ["SLEEP_CHUNKS"]), 1):
        time.sleep(block_seconds)
        block.path.write_text("slept")
        block.commit({"chunks": 1})


stage = types.ModuleType("lt_hpc.stages.sample")
stage.run = run  # type: ignore[attr-defined]
sys.modules[stage.__name__] = stage
