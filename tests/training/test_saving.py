"""Resuming: the newest checkpoint that verifies, and no other, is what a start goes on from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file

from lt_hpc.store import checkpoints
from lt_hpc.training.protocol import Ranks, Trainer
from lt_hpc.training.saving import Saver


class Alone(Ranks):
    """The only rank."""

    rank, count = 0, 1

    def all_sum(self, *values: float) -> list[float]:
        return list(values)

    def from_first(self, text: str) -> str:
        return text


@dataclass
class OneNumber(Trainer):
    """The part of a trainer that is saved."""

    value: float = 0.0
    restored: list[int] = field(default_factory=list)

    def snapshot(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        return {"0.master": torch.tensor([self.value])}, {"pieces": "[]"}

    def restore(self, files: list[Path], step: int) -> None:
        self.value = float(load_file(files[0])["0.master"][0])
        self.restored.append(step)


def saver(folder: Path, attempt: str, model: str = "model") -> Saver:
    return Saver(folder, Alone(), expected=model, attempt=attempt, keep=2)


def train(folder: Path, attempt: str, steps: list[int]) -> None:
    first, trainer = saver(folder, attempt), OneNumber()
    for step in steps:
        trainer.value = float(step)
        first.save(trainer, step)
        trainer.value = -1.0  # the next step: what is being written must not see it
        assert first.wait() is not None


def damage(folder: Path, step: int) -> None:
    (file,) = folder.glob(f"step-{step:08d}-*/*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def test_the_newest_is_taken_with_what_it_was_saved_with(tmp_path: Path) -> None:
    train(tmp_path, "a", [10, 20])
    trainer = OneNumber()
    assert saver(tmp_path, "b").resume(trainer) == 20
    assert trainer.value == 20.0


def test_a_damaged_one_is_passed_over_and_goes_at_the_next_checkpoint(tmp_path: Path) -> None:
    train(tmp_path, "a", [10, 20])
    damage(tmp_path, 20)
    trainer, again = OneNumber(), saver(tmp_path, "b")
    assert again.resume(trainer) == 10
    assert trainer.restored == [10] and trainer.value == 10.0
    again.save(trainer, 12)
    again.wait()
    assert [(found.step, found.attempt) for found in checkpoints.all_of(tmp_path)] == [(10, "a"), (12, "b")]


def test_with_none_left_or_one_of_another_model_training_starts_anew(tmp_path: Path) -> None:
    train(tmp_path, "a", [10])
    assert saver(tmp_path, "b", model="other").resume(OneNumber()) == 0
    damage(tmp_path, 10)
    trainer = OneNumber()
    assert saver(tmp_path, "c").resume(trainer) == 0
    assert trainer.restored == []
