"""The GPU check: silent success without a GPU, and a rehearsal of its checks on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def gpu_check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.gpu_check", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line_and_succeeds() -> None:
    found = gpu_check()
    assert found.returncode == 0
    assert found.stdout.count("\n") == 1 and "no GPU" in found.stdout


def test_its_checks_run_and_their_figures_are_kept(tmp_path: Path) -> None:
    checks = ["attention", "draws", "engine", "reference"]
    found = gpu_check("--rehearse", "--json", str(tmp_path / "found.json"), "--only", *checks)
    assert found.returncode == 0, found.stdout
    rows = json.loads((tmp_path / "found.json").read_text())
    assert list(rows) == checks
    assert {row["status"] for row in rows["engine"]} == {"ok", "measured"}


@pytest.mark.slow
def test_the_longer_checks_run(tmp_path: Path) -> None:
    found = gpu_check("--rehearse", "--only", "platform", "ranks", "zero", "training", "launch")
    assert found.returncode == 0, found.stdout
    assert "TERM while training" in found.stdout
