"""A small experiment: two arms of the smallest real run with two seeds, and the command on it."""

from __future__ import annotations

import sys
from pathlib import Path

from lt_hpc.config.load import demo_file

OVERRIDES = [
    "corpus.num_documents=12",
    "warm.num_documents=12",
    "heldout.num_documents=6",
    "evaluate.num_samples=2",
    "evaluate.estimate_chunks=2",
    "evaluate.estimate_samples=4",
    "evaluate.answer_samples=1",
    "warm_start.steps=2",
    "local.train_ranks=1",
]
TOY = f"""
title: A toy
question: Does it run?
seeds: [0, 1]
measures: [accuracy, log_likelihood]
pairs: [[more, few]]
sizes:
  toy:
    config: {demo_file()}
    iterations: 0
    overrides: [{", ".join(OVERRIDES)}]
    arms:
      few: []
      more: [evaluate.num_samples=3]
"""


def write(folder: Path, old: str = "", new: str = "") -> Path:
    """The toy's file, with something in it replaced."""
    assert old in TOY
    path = folder / "toy.yaml"
    path.write_text(TOY.replace(old, new, 1) if old else TOY)
    return path


def arguments(path: Path, out: Path, *more: str) -> list[str]:
    return [str(path), "--out", str(out), "--cluster", "local", *more]


def command(path: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "lt_hpc.experiment", *arguments(path, out, *more)]
