"""A small experiment: four arms of the smallest real run, and the command on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lt_hpc.config.load import demo_file
from tests.runs.small_run import SMALL_RUN

OVERRIDES = [one for one in SMALL_RUN if not one.startswith("--")]
TOY = f"""
title: A toy
question: Does it run?
seeds: [0, 1]
measures: [accuracy, log_likelihood, ess_mean]
pairs: [[importance, argmax]]
by_iteration: [importance]
sizes:
  toy:
    config: {demo_file()}
    iterations: 1
    overrides: [{", ".join(OVERRIDES)}]
    arms:
      importance: []
      argmax: [merge.method=argmax]
      raw: {{overrides: [objective=raw, matched=flops]}}
      warm: {{iterations: 0}}
"""


def write(folder: Path, old: str = "", new: str = "") -> Path:
    """The toy's file, with something in it replaced."""
    assert old in TOY
    path = folder / "toy.yaml"
    path.write_text(TOY.replace(old, new, 1) if old else TOY)
    return path


def command(path: Path, out: Path, *more: str) -> list[str]:
    cluster = ["--cluster", "local"]
    return [sys.executable, "-m", "lt_hpc.experiment", str(path), "--out", str(out), *cluster, *more]


def experiment(path: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(command(path, out, *more), capture_output=True, text=True, env={**os.environ})
