"""What an M-step trains on, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.stages import train_data
from tests.runs.tiny_run import run_e_step


@pytest.mark.parametrize(("epochs", "least", "most"), [(0.001, 1, 1), (1, 1, 4), (2.5, 2, 10)])
def test_a_share_of_an_epoch_is_at_least_one_step(
    tmp_path: Path, epochs: float, least: int, most: int
) -> None:
    task = run_e_step(tmp_path, "train.steps=null", f"train.epochs={epochs}")
    steps = train_data.plan_steps(task, train_data.data_of(task))
    assert least <= steps.count <= most
    rows = sum(len(steps.of(step)) for step in range(steps.count))
    assert rows == len(steps.rows) > 0, "each row is trained on once"
    assert all(steps.size(step).scored > 0 for step in range(steps.count))
