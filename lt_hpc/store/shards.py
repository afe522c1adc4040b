"""Blocks and shards of a sharded stage (the E-step), and which shards are done.

A block is a fixed group of consecutive chunks: the unit of batching and of commit, the
same whatever the shards. A shard is a range of blocks that one task handles. The map is
pinned in the output folder by the first task that starts, so that no later launch remaps work.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from lt_hpc.errors import IncompleteError
from lt_hpc.store import manifest
from lt_hpc.store.atomic import create_json, read_sealed, sealed, write_json
from lt_hpc.store.fingerprints import fingerprint
from lt_hpc.store.paths import shard_map_file, shard_name


@dataclass(frozen=True)
class ShardMap:
    """Which chunks a block and a shard have. All ids count from 0.

    Attributes:
        samples: fingerprint of the stage that fills the shards.
        num_chunks: chunks of the corpus, with the ids 0 to num_chunks - 1.
        block_chunks: chunks per block; the last block may have fewer.
        num_shards: shards, each a range of whole blocks. 10 chunks in blocks of 4 over 2 shards: shard 0
            has block 0 (chunks 0 to 3), shard 1 blocks 1 and 2 (chunks 4 to 9).
    """

    samples: str
    num_chunks: int
    block_chunks: int
    num_shards: int

    @property
    def num_blocks(self) -> int:
        return -(-self.num_chunks // self.block_chunks)

    def blocks(self, shard: int) -> range:
        """The blocks of a shard; sizes differ by at most one, trailing shards may be empty."""
        return range(
            shard * self.num_blocks // self.num_shards, (shard + 1) * self.num_blocks // self.num_shards
        )

    def chunks(self, block: int) -> range:
        """The chunk ids of a block."""
        return range(block * self.block_chunks, min((block + 1) * self.block_chunks, self.num_chunks))

    def shard_chunks(self, shard: int) -> range:
        """The chunk ids of a shard."""
        blocks = self.blocks(shard)
        return range(blocks.start * self.block_chunks, min(blocks.stop * self.block_chunks, self.num_chunks))

    def fingerprint(self, shard: int) -> str:
        """The fingerprint of one shard's folder."""
        blocks = self.blocks(shard)
        return fingerprint("shard", {"blocks": [blocks.start, blocks.stop]}, {"samples": self.samples})


def pin(folder: Path, wanted: ShardMap) -> ShardMap:
    """The map pinned in an output folder, which is `wanted` if there was none.

    Raises:
        IncompleteError: when the folder was made with other settings or from other inputs.
    """
    create_json(shard_map_file(folder), sealed(asdict(wanted)))
    pinned = read(folder)
    if pinned is None:  # damaged; every task puts the same in its place, and shards that fit it are kept
        write_json(shard_map_file(folder), sealed(asdict(wanted)))
        pinned = wanted
    if (pinned.samples, pinned.num_chunks) != (wanted.samples, wanted.num_chunks):
        raise IncompleteError(f"{folder} was made with other settings; lt_hpc.launch moves it away")
    return pinned


def read(folder: Path) -> ShardMap | None:
    """The map pinned in an output folder, or None."""
    try:
        found = ShardMap(**read_sealed(shard_map_file(folder)))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    counts = (found.num_chunks, found.block_chunks, found.num_shards)
    return found if all(isinstance(one, int) and one > 0 for one in counts) else None


def problems(folder: Path, shards: ShardMap, checksums: bool) -> dict[int, str]:
    """Shard -> why it is not done, for every shard that is not. One listing tells of those that have not been
    started; it is as fresh as the opening of a file: NFS asks the server again when a folder is opened."""
    found, started = {}, _names_in(folder)
    for shard in range(shards.num_shards):
        path = f"{folder}/{(name := shard_name(shard))}"
        if name in started:
            reason = manifest.problem(path, shards.fingerprint(shard), checksums)
        else:
            reason = manifest.none_in(path)
        if reason is not None:
            found[shard] = reason
    return found


def _names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()


def look(folder: Path, expected: str) -> tuple[str | None, ShardMap | None, list[int]]:
    """Why a sharded stage is not done for the fingerprint `expected`, None when every shard of its pinned map
    is; that map, None where it has not been started; and its shards that are missing."""
    pinned = read(folder)
    if pinned is None or pinned.samples != expected:
        return f"{folder} has not been started", None, []
    found = problems(folder, pinned, checksums=False)
    if not found:
        return None, pinned, []
    first = next(iter(found.values()))
    return f"{len(found)} of {pinned.num_shards} shards missing, first: {first}", pinned, list(found)


def problem(folder: Path, expected: str) -> str | None:
    """The first of `look`."""
    return look(folder, expected)[0]
