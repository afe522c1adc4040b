"""docs/configuration.md says what the schema says."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lt_hpc.config.fields import setting

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "config_reference.py"


def check(*file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), "--check", *map(str, file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_page_is_that_of_the_schema(tmp_path: Path) -> None:
    result = check()
    assert result.returncode == 0, result.stderr
    stale = tmp_path / "configuration.md"
    stale.write_text((ROOT / "docs" / "configuration.md").read_text().replace("at least 16", "at least 15"))
    result = check(stale)
    assert result.returncode == 1 and "configuration.md" in result.stderr


@dataclass
class Tree:
    """Words about the section."""

    num_steps: int | None = setting(None, "optimizer steps", ge=1, was="steps")
    dropout: float = setting(0.5, "share per layer", gt=0, le=1, neutral=True)


def test_a_row_says_all_that_is_declared_of_a_field() -> None:
    page = runpy.run_path(str(TOOL))["reference"](Tree)
    assert "Words about the section." in page
    assert (
        "| `num_steps` | int or null | `null` | at least 1 | yes | optimizer steps (earlier name: `steps`) |"
    ) in page
    assert (
        "| `dropout` | float | `0.5` | greater than 0 and at most 1 | unless it is the default "
        "| share per layer |"
    ) in page
