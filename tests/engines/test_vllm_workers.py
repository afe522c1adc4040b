"""Tensor parallelism: an engine on two CPU workers, and what signals to the whole job come to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.engines.vllm_engine import of_continuation
from lt_hpc.errors import Interrupted
from lt_hpc.launch import make_plan
from lt_hpc.run import state
from lt_hpc.store.paths import RunPaths

SETTINGS = [
    "corpus.num_documents=64", "warm.num_documents=16", "heldout.num_documents=4", "warm_start.steps=1",
    "evaluate.num_samples=1", "sample.block_chunks=4", "sample.num_shards=1", "sample.num_samples=4",
]  # fmt: skip
PARALLEL = [
    "sample.engine=vllm", "sample.vllm.tensor_parallel_size=2", "sample.vllm.kv_cache_gb=0.1",
    "sample.vllm.max_num_seqs=16",
]  # fmt: skip
"""Decodes one block's samples together, so that few blocks are in flight."""
SECONDS = 240


@pytest.mark.parametrize(
    ("found", "cached", "expected"),
    [
        (range(9), 0, ([5, 6, 7, 8], 0)),
        (range(9), 6, ([5, 6, 7, 8], 1)),  # there, with no meaning
        (range(6, 9), 6, ([np.nan, 6, 7, 8], 1)),  # not there
        (range(4, 9), 4, ([5, 6, 7, 8], 0)),
    ],
)
def test_scores_stand_at_their_tokens_with_and_without_those_of_the_cache(
    found: range, cached: int, expected: tuple[list[float], int]
) -> None:
    scores, missing = of_continuation(np.array(found, np.float32), prefix=6, length=4, cached=cached)
    assert missing == expected[1]
    np.testing.assert_array_equal(scores, np.array(expected[0], np.float32))


@pytest.mark.slow
def test_a_stop_that_reaches_the_workers_first_ends_as_interrupted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "lt_hpc.launch", "--cluster=local", "--iters=0", f"--run-dir={run}"]
    subprocess.run([*command, *SETTINGS], check=True)
    paths, config = RunPaths(run), load_config(demo_file(), [*SETTINGS, *PARALLEL])
    plan = make_plan(config, 1, paths)
    state.pin_plan(paths, plan)
    task = [sys.executable, "-m", "lt_hpc.stages", str(run), plan.fingerprint, "sample-01", "--shards=0"]

    def parts() -> int:
        return len(list(run.glob("iter-01/samples/*/part-*.parquet")))

    def told(*numbers: signal.Signals) -> tuple[int, str]:
        """Exit code and output of the task after these signals to all of its processes, each after one
        more block."""
        process = subprocess.Popen(
            task, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for number in numbers:
            before, deadline = parts(), time.monotonic() + SECONDS
            while parts() == before and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            os.killpg(process.pid, number)
        output, _ = process.communicate(timeout=SECONDS)
        return process.returncode, output

    code, output = told(signal.SIGUSR2)
    assert code == Interrupted.exit_code, output
    after_warning = parts()
    code, output = told(signal.SIGTERM)
    assert code == Interrupted.exit_code, output
    assert 0 < after_warning < parts() < 16
    code, output = told()
    assert code == 0, output
