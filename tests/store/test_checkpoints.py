"""Which checkpoint training goes on from: the newest whole one of the same model and world."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.store import checkpoints


def save(folder: Path, step: int, fingerprint: str = "model", world_size: int = 2) -> Path:
    path = folder / checkpoints.tag(step)
    (path / "states").mkdir(parents=True)
    for rank in range(world_size):
        (path / "states" / f"rank{rank}.pt").write_text(f"state {step} of {rank}")
    checkpoints.commit(folder, step, fingerprint, world_size)
    return path


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path, "model", 2) is None


def test_the_newest_is_the_one_of_the_largest_step(tmp_path: Path) -> None:
    for step in (8, 9, 10, 100):
        save(tmp_path, step)
    (tmp_path / "train.jsonl").write_text("")
    (tmp_path / "rendezvous-1").mkdir()
    assert checkpoints.latest(tmp_path, "model", 2) == 100


def test_one_without_its_manifest_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 2)
    (save(tmp_path, 4) / "manifest.json").unlink()
    (tmp_path / checkpoints.tag(6)).mkdir()  # killed before anything was written
    assert checkpoints.latest(tmp_path, "model", 2) == 2


@pytest.mark.parametrize("content", [None, "state 4", "State 4 of 1"])
def test_one_with_a_lost_truncated_or_changed_file_is_passed_over(
    tmp_path: Path, content: str | None
) -> None:
    save(tmp_path, 2)
    file = save(tmp_path, 4) / "states" / "rank1.pt"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    assert checkpoints.latest(tmp_path, "model", 2) == 2


def test_one_of_another_world_size_or_model_does_not_count(tmp_path: Path) -> None:
    save(tmp_path, 2)
    save(tmp_path, 4, world_size=4)
    save(tmp_path, 6, fingerprint="other model")
    assert checkpoints.latest(tmp_path, "model", 2) == 2
    assert checkpoints.latest(tmp_path, "model", 4) == 4
    assert checkpoints.latest(tmp_path, "model", 8) is None


@pytest.mark.parametrize(("keep", "kept"), [(1, [100]), (2, [9, 100]), (9, [2, 9, 100])])
def test_pruning_keeps_the_newest(tmp_path: Path, keep: int, kept: list[int]) -> None:
    for step in (2, 9, 100):
        save(tmp_path, step)
    (tmp_path / "train.jsonl").write_text("")
    checkpoints.prune(tmp_path, keep)
    assert steps(tmp_path) == [*(checkpoints.tag(step) for step in kept), "train.jsonl"]


def test_clearing_makes_room_for_one_step_and_leaves_the_others(tmp_path: Path) -> None:
    save(tmp_path, 2)
    (tmp_path / checkpoints.tag(4)).mkdir()
    (tmp_path / checkpoints.tag(4) / "left over").write_text("")
    checkpoints.clear(tmp_path, 4)
    checkpoints.clear(tmp_path, 6)
    assert steps(tmp_path) == [checkpoints.tag(2)]
    save(tmp_path, 4)
    assert checkpoints.latest(tmp_path, "model", 2) == 4
