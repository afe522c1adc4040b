"""What training reports every few steps: JSON lines always, trackers when asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lt_hpc.store.atomic import append_line, read_lines
from lt_hpc.store.checkpoints import Cost
from lt_hpc.trackers import TRACKERS


class TrainLog:
    """The log of one model's training, on rank 0.

    `path` is the JSON lines file, which all attempts append to; `folder` is where trackers keep their
    files, `name` what they call this model's curve, and `first` the step, counted from 0, that this
    attempt begins with: what TensorBoard shows from there on is replaced.
    """

    def __init__(self, path: Path, trackers: Sequence[str], folder: Path, name: str, first: int) -> None:
        self.path = path
        self.trackers = [TRACKERS[kind](folder, name, first) for kind in trackers]

    def step(self, values: dict[str, Any]) -> None:
        """A line on the step values["step"], counted from 0; None for what can't be measured here."""
        append_line(self.path, values)
        numbers = {f"train/{k}": v for k, v in values.items() if k != "step" and v is not None}
        for tracker in self.trackers:
            tracker.log(numbers, values["step"])

    def checkpoint(self, cost: Cost) -> None:
        """A line on what a checkpoint took."""
        append_line(self.path, {"checkpoint": asdict(cost)})

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.close()


def read(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """(the last line of each step, in order; the lines on checkpoints), over all attempts. Lines that say
    neither are passed over."""
    steps: dict[int, dict[str, Any]] = {}
    checkpoints = []
    for line in read_lines(path):
        if isinstance(line.get("checkpoint"), dict):
            checkpoints.append(line["checkpoint"])
        elif isinstance(line.get("step"), int):
            steps[line["step"]] = line
    return [steps[step] for step in sorted(steps)], checkpoints
