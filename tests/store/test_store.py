"""What is marked done is done: atomic writes, manifests, shard maps, checkpoints."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.errors import IncompleteError
from lt_hpc.store import atomic, checkpoints, manifest, shards
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import RunPaths
from lt_hpc.store.shards import ShardMap


def finished_folder(folder: Path) -> Path:
    atomic.write_text(folder / "data.txt", "some text")
    manifest.write(folder, Manifest("test", "abc", True, (manifest.describe(folder / "data.txt"),)))
    return folder


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    atomic.write_text(target, "old")
    with pytest.raises(RuntimeError), atomic.atomic_file(target) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_what_a_killed_writer_left_is_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / ".tmp-part.host-1-abc").write_text("half")
    (tmp_path / "part").write_text("whole")
    atomic.clean_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def _create(arguments: tuple[Path, int]) -> bool:
    return atomic.create_json(arguments[0], arguments[1])


def test_of_several_processes_one_creates_the_file(tmp_path: Path) -> None:
    target = tmp_path / "map.json"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.map(_create, [(target, number) for number in range(8)])
    assert sum(won) == 1
    assert target.read_text().strip() == str(won.index(True))


def test_a_finished_folder_verifies(tmp_path: Path) -> None:
    folder = finished_folder(tmp_path / "out")
    assert manifest.problem(folder, "abc", checksums=True) is None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "data.txt").unlink(), "missing"),
        (lambda f: (f / "data.txt").write_text("some tex"), "8 bytes"),
        (lambda f: (f / "data.txt").write_text("same text"), "checksum"),
        (lambda f: (f / "manifest.json").write_text("{"), "no manifest"),
        (lambda f: manifest.reopen(f), "not finished"),
    ],
)
def test_any_damage_is_noticed_and_named(tmp_path: Path, damage: object, reason: str) -> None:
    folder = finished_folder(tmp_path / "out")
    damage(folder)  # type: ignore[operator]
    assert reason in str(manifest.problem(folder, "abc", checksums=True))
    with pytest.raises(IncompleteError, match=reason):
        manifest.verified(folder, "abc")


def test_other_settings_are_not_done(tmp_path: Path) -> None:
    assert "other settings" in str(manifest.problem(finished_folder(tmp_path / "out"), "abd"))


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_a_fingerprint_refuses_what_it_cannot_hold_exactly(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        manifest.fingerprint("stage", {"key": value}, {})


@given(st.integers(1, 3000), st.integers(1, 70), st.integers(1, 40))
def test_shards_partition_the_chunks(num_chunks: int, block: int, num_shards: int) -> None:
    shard_map = ShardMap("abc", num_chunks, block, num_shards)
    chunks = [
        chunk
        for shard in range(num_shards)
        for number in shard_map.blocks(shard)
        for chunk in shard_map.chunks(number)
    ]
    assert chunks == list(range(num_chunks))


def test_the_first_shard_map_stays(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    first = ShardMap("abc", 100, 10, 4)
    assert shards.pin(paths, 1, first) == first
    assert shards.pin(paths, 1, ShardMap("abc", 100, 10, 7)) == first
    with pytest.raises(IncompleteError, match="other settings"):
        shards.pin(paths, 1, ShardMap("abd", 100, 10, 4))


def checkpoint(folder: Path, step: int) -> None:
    (folder / checkpoints.tag(step)).mkdir(parents=True)
    (folder / checkpoints.tag(step) / "rank0.pt").write_text(f"state {step}")
    checkpoints.commit(folder, step, "model", 2)


def test_the_latest_checkpoint_is_the_last_whole_one_of_the_same_world(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        checkpoint(tmp_path, step)
    (tmp_path / checkpoints.tag(8)).mkdir()  # killed before its manifest
    (tmp_path / checkpoints.tag(6) / "rank0.pt").write_text("state")  # truncated
    assert checkpoints.latest(tmp_path, "model", 2) == 4
    assert checkpoints.latest(tmp_path, "model", 4) is None
    assert checkpoints.latest(tmp_path, "other model", 2) is None


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        checkpoint(tmp_path, step)
    checkpoints.prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [checkpoints.tag(4), checkpoints.tag(6)]
