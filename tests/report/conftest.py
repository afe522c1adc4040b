"""A finished run of the first release."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from lt_hpc.store.paths import RunPaths

RUN = Path(__file__).parents[1] / "run" / "run_of_f8de9d8.tar.xz"


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    with tarfile.open(RUN) as archive:
        archive.extractall(tmp_path, filter="data")
    return RunPaths(tmp_path / "run")
