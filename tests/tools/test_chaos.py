"""A small share of the random faults that tools/chaos.py tries by the hundred."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_runs_heal_from_random_faults_and_end_with_the_same_bytes() -> None:
    command = [sys.executable, "tools/chaos.py", "--seed", "1", "--runs", "8"]
    tried = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "8 cases, 0 ended badly" in tried.stdout
