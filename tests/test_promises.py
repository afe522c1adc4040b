"""Every promise on failures in docs/failures.md names tests that exist; commands of docs/gpu.md run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_tests_of_the_promises_exist() -> None:
    page = (ROOT / "docs" / "failures.md").read_text().partition("\n## What is promised")[2]
    rows = page.partition("|---|---|\n")[2].splitlines()
    named = [re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row) for row in rows]
    assert len(named) >= 20 and all(named)
    for file, name in (test for tests in named for test in tests):
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"


def commands(page: str) -> list[str]:
    """The dry runs that a page of the documents shows."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(r"^lt-hpc (launch .* --dry-run.*)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("command", commands("gpu.md"))
def test_the_dry_runs_for_gpus_run_without_one(command: str, tmp_path: Path) -> None:
    profile = (ROOT / "configs" / "cluster" / "gpu.yaml").read_text()
    (tmp_path / "site.yaml").write_text(profile)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    words = [*shlex.split(command), "--cluster", "local"]
    result = subprocess.run(
        [sys.executable, "-m", "lt_hpc.cli", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "memory per rank: ZeRO-1" in result.stdout and "nothing was created or submitted" in result.stdout
    if "--profile" in words:
        assert "site.yaml goes before the configuration: slurm.train.minutes='1440'" in result.stdout
    assert not (tmp_path / "runs").exists()
