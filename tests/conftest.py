"""For all tests: one small finished run, a real language model, Hypothesis that draws the same examples each
time and does not look at the clock, and a Ctrl-C that reaches the commands under test."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

from lt_hpc.store.paths import RunPaths
from tests.runs.small_run import finish, launch

settings.register_profile("lt_hpc", deadline=None, derandomize=True)
settings.load_profile("lt_hpc")

# Torch and all else that is imported stays; to look through it again and again takes a tenth of the time.
gc.set_threshold(50_000)

# A shell starts what runs in its background deaf to it, and every child would be too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a small run that nothing interrupted, in a shell with umask 0. Processes that test
    beside each other, with one folder as LT_HPC_TESTS, make it once and copy it, since some commands write
    their report again."""
    own = tmp_path_factory.mktemp("undisturbed") / "run"
    shared = os.environ.get("LT_HPC_TESTS")
    run = Path(shared, "run") if shared else own
    with (run.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not RunPaths(run).report_html.exists():
            finish(launch(run, umask=0))
    if run != own:
        shutil.copytree(run, own)
    return own


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct. tools/test.sh has it made before the tests; else it is made here,
    once for this clone."""
    repository = Path(__file__).parents[1]
    subprocess.run(["bash", "tools/smollm2.sh"], cwd=repository, check=True)
    return repository / "models" / "smollm2-135m"
