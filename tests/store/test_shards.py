"""Shards: a partition of the blocks, pinned by whoever comes first."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.errors import IncompleteError
from lt_hpc.store import atomic, manifest, shards
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import RunPaths, shard_folder
from lt_hpc.store.shards import ShardMap


@given(st.integers(0, 3000), st.integers(1, 70), st.integers(1, 80))
def test_shards_partition_blocks_and_blocks_partition_chunks(
    num_chunks: int, block_chunks: int, num_shards: int
) -> None:
    shard_map = ShardMap("abc", num_chunks, block_chunks, num_shards)
    blocks = [block for shard in range(num_shards) for block in shard_map.blocks(shard)]
    assert blocks == list(range(shard_map.num_blocks))
    chunks = [chunk for block in blocks for chunk in shard_map.chunks(block)]
    assert chunks == list(range(num_chunks))
    assert all(0 < len(shard_map.chunks(block)) <= block_chunks for block in blocks)
    sizes = [len(shard_map.blocks(shard)) for shard in range(num_shards)]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 30), st.integers(1, 30))
def test_a_block_holds_the_same_chunks_whatever_the_number_of_shards(
    num_chunks: int, block_chunks: int, num_shards: int, other: int
) -> None:
    one, two = (ShardMap("abc", num_chunks, block_chunks, shards) for shards in (num_shards, other))
    assert one.num_blocks == two.num_blocks
    assert [one.chunks(b) for b in range(one.num_blocks)] == [two.chunks(b) for b in range(two.num_blocks)]


def test_each_shard_has_a_fingerprint_of_its_blocks_and_samples() -> None:
    first, resharded = ShardMap("abc", 100, 10, 5), ShardMap("abc", 100, 10, 4)
    assert len({first.fingerprint(shard) for shard in range(5)}) == 5
    assert first.fingerprint(1) != resharded.fingerprint(1)
    assert first.fingerprint(1) != ShardMap("abd", 100, 10, 5).fingerprint(1)


def test_the_first_map_stays(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    first = ShardMap("abc", 100, 10, 4)
    assert shards.read(paths.samples(1)) is None
    assert shards.pin(paths.samples(1), first) == first
    assert shards.pin(paths.samples(1), ShardMap("abc", 100, 10, 7)) == first
    assert shards.read(paths.samples(1)) == first
    assert shards.pin(paths.samples(2), ShardMap("abc", 100, 10, 7)).num_shards == 7, "of this iteration only"


@pytest.mark.parametrize("other", [ShardMap("abd", 100, 10, 4), ShardMap("abc", 90, 10, 4)])
def test_samples_of_other_settings_or_another_corpus_are_refused(tmp_path: Path, other: ShardMap) -> None:
    paths, first = RunPaths(tmp_path), ShardMap("abc", 100, 10, 4)
    shards.pin(paths.samples(1), first)
    with pytest.raises(IncompleteError, match="other settings"):
        shards.pin(paths.samples(1), other)
    assert shards.read(paths.samples(1)) == first


def _pin(arguments: tuple[Path, int]) -> int:
    root, num_shards = arguments
    return shards.pin(RunPaths(root).samples(1), ShardMap("abc", 100, 10, num_shards)).num_shards


def test_tasks_that_start_at_the_same_time_agree_on_one_map(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        answers = pool.map(_pin, [(tmp_path, num_shards) for num_shards in range(1, 13)], chunksize=1)
    assert len(set(answers)) == 1
    pinned = shards.read(RunPaths(tmp_path).samples(1))
    assert pinned is not None and pinned.num_shards == answers[0]


def finish(paths: RunPaths, shard_map: ShardMap, shard: int) -> Path:
    folder = shard_folder(paths.samples(1), shard)
    atomic.write_text(folder / "part", f"samples of {shard}")
    entry = manifest.describe(folder / "part")
    manifest.write(folder, Manifest("shard", shard_map.fingerprint(shard), True, (entry,)))
    return folder


def test_exactly_the_shards_that_are_not_done_are_named(tmp_path: Path) -> None:
    paths, shard_map = RunPaths(tmp_path), ShardMap("abc", 100, 10, 5)
    assert "not been started" in str(shards.problem(paths.samples(1), "abc"))
    shards.pin(paths.samples(1), shard_map)
    for shard in (0, 1, 3, 4):
        finish(paths, shard_map, shard)
    (shard_folder(paths.samples(1), 1) / "part").unlink()
    (shard_folder(paths.samples(1), 4) / "part").write_text("Samples of 4")
    assert set(shards.problems(paths.samples(1), shard_map, checksums=False)) == {1, 2}
    assert set(shards.problems(paths.samples(1), shard_map, checksums=True)) == {1, 2, 4}
    assert "2 of 5 shards missing" in str(shards.problem(paths.samples(1), "abc"))
    finish(paths, shard_map, 1)
    finish(paths, shard_map, 2)
    assert shards.problem(paths.samples(1), "abc") is None
    assert "not been started" in str(shards.problem(paths.samples(1), "abd"))
