"""The training log: the last line of each step counts, and TensorBoard shows the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.store.checkpoints import Cost
from lt_hpc.training import train_log


def line(step: int, loss: float) -> dict[str, float | None]:
    return {"step": step, "loss": loss, "mfu": None}


def test_steps_that_were_made_again_count_once(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    first = train_log.TrainLog(path, [], tmp_path, "run", 0)
    for step in range(4):
        first.step(line(step, 9.0 - step))
    first.checkpoint(Cost(2.5, 1000, 0.1))
    again = train_log.TrainLog(path, [], tmp_path, "run", 2)
    for step in (2, 3, 4):
        again.step(line(step, 9.0 - step))
    steps, checkpoints = train_log.read(path)
    assert [(entry["step"], entry["loss"]) for entry in steps] == [(s, 9.0 - s) for s in range(5)]
    assert checkpoints == [{"seconds": 2.5, "blocked_seconds": 0.1, "bytes": 1000}]


def test_tensorboard_shows_one_curve_over_attempts(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first in (0, 2):
        log = train_log.TrainLog(tmp_path / "log.jsonl", ["tensorboard"], tmp_path, "run", first)
        for step in range(first, first + 3):
            log.step(line(step, 10.0 * first + step))
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "run"))
    events.Reload()
    assert events.Tags()["scalars"] == ["train/loss"]  # null is left out
    found = {event.step: event.value for event in events.Scalars("train/loss")}
    assert found == pytest.approx({0: 0, 1: 1, 2: 22, 3: 23, 4: 24})
