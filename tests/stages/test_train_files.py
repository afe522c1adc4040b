"""The data of a training in files: what it is in memory, found again by the next attempt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lt_hpc.errors import IncompleteError
from lt_hpc.stages import train_data, train_files, train_steps
from lt_hpc.stages.task import Task
from lt_hpc.stages.train_steps import Steps
from lt_hpc.store import manifest
from lt_hpc.training.batches import make_batch
from lt_hpc.training.protocol import Ranks
from tests.runs.tiny_run import run_e_step


class Alone(Ranks):
    """One rank."""

    rank, count = 0, 1

    def all_sum(self, *values: float) -> list[float]:
        return list(values)


def batches(task: Task, steps: Steps) -> list[list[list[int]]]:
    layout, pad = task.vocabulary.layout, task.vocabulary.pad
    length = task.plan.config.model.context_length
    made = [make_batch(steps.of(step), layout, pad, length) for step in range(steps.count)]
    return [np.stack([one.ids, one.positions, one.labels]).tolist() for one in made]


@pytest.mark.parametrize("few", [0, train_steps.FEW_EXAMPLES])
def test_files_hold_what_is_trained_on_and_serve_until_one_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(train_steps, "FEW_EXAMPLES", few)
    task = run_e_step(tmp_path, "train.steps=null", "train.epochs=2", "train.raw_share=0.5")
    expected = batches(task, train_steps.plan_steps(task, train_data.data_of(task)))
    folder = task.paths.training_data(1, task.stage.fingerprint)
    folder.parent.mkdir(parents=True)
    made = []
    for _ in range(2):
        data, steps = train_files.shared(task, Alone())
        assert batches(task, steps) == expected
        assert data.text is not None and steps.passes([data.text]) > 0
        made.append(folder.stat().st_ino)
    assert made[0] == made[1], "the second attempt reads what the first one made"
    assert list(folder.parent.iterdir()) == [folder]

    tokens = folder / "documents.tokens.int32"
    sound = tokens.read_bytes()
    tokens.write_bytes(bytes([sound[0] ^ 1, *sound[1:]]))
    assert batches(task, train_files.shared(task, Alone())[1]) == expected
    assert tokens.read_bytes() == sound


def test_a_thousand_epochs_over_few_documents_are_no_thousand_files(tmp_path: Path) -> None:
    task = run_e_step(tmp_path, "train.steps=null", "train.epochs=1000")
    folder = task.paths.training_data(1, task.stage.fingerprint)
    folder.parent.mkdir(parents=True)
    _, steps = train_files.shared(task, Alone())
    assert len(steps.epochs) == 1000
    assert len(list(folder.iterdir())) < 50


def test_a_damaged_selection_is_said_before_any_file_is_there(tmp_path: Path) -> None:
    task = run_e_step(tmp_path)
    task.paths.training_data(1, task.stage.fingerprint).parent.mkdir(parents=True)
    file = next(task.folder("selected").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(IncompleteError, match="checksum"):
        train_files.shared(task, Alone())
    record = manifest.read(task.folder("selected"))
    assert record is not None and not record.complete, "the next launch makes it again"
    assert not list(task.paths.training_data(1, task.stage.fingerprint).parent.iterdir())
