"""Which checkpoint training goes on from: the newest whole one of the same model."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch

from lt_hpc.errors import StageError
from lt_hpc.store import checkpoints
from lt_hpc.store.checkpoints import Checkpoint


def part(folder: Path, checkpoint: Checkpoint, rank: int) -> None:
    tensors = {"0.master": torch.full((4,), float(checkpoint.step + rank))}
    checkpoints.write_part(folder / checkpoint.name, rank, tensors, {"pieces": "[]"})


def save(folder: Path, step: int, model: str = "model", attempt: str = "a", count: int = 2) -> Checkpoint:
    checkpoint = Checkpoint(step, attempt)
    for rank in range(count):
        part(folder, checkpoint, rank)
    checkpoints.commit(folder / checkpoint.name, model, count, time.monotonic())
    return checkpoint


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path, "model") is None


def test_the_newest_is_the_one_of_the_largest_step_whoever_wrote_it(tmp_path: Path) -> None:
    for step in (8, 9, 10):
        save(tmp_path, step, attempt="z")
    newest = save(tmp_path, 100, attempt="7-0-1", count=4)
    (tmp_path / "rendezvous-1").mkdir()
    assert checkpoints.latest(tmp_path, "model") == newest
    assert [path.name for path in checkpoints.files(tmp_path, newest)] == [
        f"rank-0000{rank}.safetensors" for rank in range(4)
    ]


def test_one_without_its_manifest_is_passed_over(tmp_path: Path) -> None:
    whole = save(tmp_path, 2)
    (tmp_path / save(tmp_path, 4).name / "manifest.json").unlink()
    part(tmp_path, Checkpoint(6, "a"), 0)  # killed before rank 1 had written
    (tmp_path / Checkpoint(8, "a").name).mkdir()  # killed before anything was written
    assert checkpoints.latest(tmp_path, "model") == whole


@pytest.mark.parametrize("damage", ["lost", "truncated"])
def test_one_with_a_lost_or_truncated_file_is_passed_over(tmp_path: Path, damage: str) -> None:
    whole = save(tmp_path, 2)
    file = checkpoints.files(tmp_path, save(tmp_path, 4))[1]
    if damage == "lost":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    assert checkpoints.latest(tmp_path, "model") == whole


@pytest.mark.parametrize("readers", [1, 2, 3])
def test_a_changed_byte_is_found_by_some_rank_and_the_checkpoint_withdrawn(
    tmp_path: Path, readers: int
) -> None:
    whole, bad = save(tmp_path, 2, count=4), save(tmp_path, 4, count=4)
    file = checkpoints.files(tmp_path, bad)[2]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    for checkpoint, expected in ((whole, True), (bad, False)):
        assert (
            all(checkpoints.is_sound(tmp_path, checkpoint, rank, readers) for rank in range(readers))
            == expected
        )
    checkpoints.discard(tmp_path, bad)
    assert checkpoints.latest(tmp_path, "model") == whole


def test_one_of_another_model_does_not_count(tmp_path: Path) -> None:
    mine = save(tmp_path, 4)
    save(tmp_path, 6, model="other")
    assert checkpoints.latest(tmp_path, "model") == mine
    assert checkpoints.latest(tmp_path, "third") is None


def test_rank_0_commits_once_the_last_rank_has_written(tmp_path: Path) -> None:
    checkpoint = Checkpoint(5, "a")
    part(tmp_path, checkpoint, 0)
    slow = threading.Thread(target=part, args=(tmp_path, checkpoint, 1))
    assert checkpoints.latest(tmp_path, "model") is None
    slow.start()
    cost = checkpoints.commit(tmp_path / checkpoint.name, "model", 2, time.monotonic())
    slow.join()
    assert checkpoints.latest(tmp_path, "model") == checkpoint
    assert cost.bytes == sum(path.stat().st_size for path in checkpoints.files(tmp_path, checkpoint))


def test_a_rank_that_never_writes_ends_in_an_error_and_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "WAIT_SECONDS", 0.05)
    part(tmp_path, Checkpoint(5, "a"), 0)
    with pytest.raises(StageError, match=r"rank-00001\.json"):
        checkpoints.commit(tmp_path / Checkpoint(5, "a").name, "model", 2, time.monotonic())
    assert checkpoints.latest(tmp_path, "model") is None


def test_nobody_is_waited_for_once_training_has_ended(tmp_path: Path) -> None:
    part(tmp_path, Checkpoint(5, "a"), 0)
    started = time.monotonic()
    with pytest.raises(StageError, match=r"rank-00001\.json"):
        checkpoints.commit(tmp_path / Checkpoint(5, "a").name, "model", 2, started, lambda: True)
    assert time.monotonic() - started < checkpoints.WAIT_SECONDS


@pytest.mark.parametrize(("keep", "kept"), [(1, [100]), (2, [9, 100]), (9, [2, 9, 100])])
def test_pruning_keeps_the_newest(tmp_path: Path, keep: int, kept: list[int]) -> None:
    saved = {step: save(tmp_path, step) for step in (2, 9, 100)}
    (tmp_path / "rendezvous-a.json").write_text("{}")
    checkpoints.prune(tmp_path, keep, saved[100])
    assert names(tmp_path) == ["rendezvous-a.json", *(saved[step].name for step in kept)]


def test_pruning_leaves_what_its_own_attempt_is_writing_and_no_other_unfinished_one(tmp_path: Path) -> None:
    newest = save(tmp_path, 10, attempt="b")
    part(tmp_path, Checkpoint(20, "b"), 1)  # rank 1 is already at the next one
    part(tmp_path, Checkpoint(20, "a"), 0)  # an attempt that was killed
    part(tmp_path, Checkpoint(8, "b"), 0)
    checkpoints.prune(tmp_path, 1, newest)
    assert names(tmp_path) == [newest.name, Checkpoint(20, "b").name]


def test_a_withdrawn_one_of_a_later_step_never_pushes_out_a_good_one(tmp_path: Path) -> None:
    bad = save(tmp_path, 100, attempt="a")
    checkpoints.discard(tmp_path, bad)
    good = save(tmp_path, 50, attempt="b")
    checkpoints.prune(tmp_path, 1, good)
    assert names(tmp_path) == [good.name]
