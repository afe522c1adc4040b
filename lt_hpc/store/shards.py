"""Blocks and shards of an E-step, and which shards are done.

A block is a fixed group of consecutive chunks: the unit of batching and of commit, the
same whatever the shards. A shard is a range of blocks that one task handles. The map is
pinned in the samples folder by whoever comes first, so that no later launch remaps work.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from lt_hpc.errors import IncompleteError
from lt_hpc.store import manifest
from lt_hpc.store.atomic import create_json
from lt_hpc.store.paths import RunPaths


@dataclass(frozen=True)
class ShardMap:
    """`num_chunks` chunks in blocks of `block_chunks`, spread over `num_shards` shards."""

    samples: str  # fingerprint of the E-step
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

    def fingerprint(self, shard: int) -> str:
        """Of one shard's folder."""
        blocks = self.blocks(shard)
        return manifest.fingerprint(
            "shard", {"blocks": [blocks.start, blocks.stop]}, {"samples": self.samples}
        )


def pin(paths: RunPaths, iteration: int, wanted: ShardMap) -> ShardMap:
    """The pinned map of an iteration, which is `wanted` if there was none.

    Raises:
        IncompleteError: when the folder holds samples of other settings or another corpus.
    """
    create_json(paths.shard_map(iteration), asdict(wanted))
    pinned = read(paths, iteration)
    assert pinned is not None
    if (pinned.samples, pinned.num_chunks) != (wanted.samples, wanted.num_chunks):
        raise IncompleteError(
            f"{paths.samples(iteration)} holds samples of other settings; lt_hpc.launch moves them away"
        )
    return pinned


def read(paths: RunPaths, iteration: int) -> ShardMap | None:
    """The pinned map, or None."""
    try:
        return ShardMap(**json.loads(paths.shard_map(iteration).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def problems(paths: RunPaths, iteration: int, shards: ShardMap, checksums: bool) -> dict[int, str]:
    """Shard -> why it is not done, for every shard that is not."""
    found = {}
    for shard in range(shards.num_shards):
        reason = manifest.problem(paths.shard(iteration, shard), shards.fingerprint(shard), checksums)
        if reason is not None:
            found[shard] = reason
    return found


def stage_problem(paths: RunPaths, iteration: int, samples: str) -> str | None:
    """Why an E-step is not done, or None when every shard of its pinned map is."""
    shards = read(paths, iteration)
    if shards is None or shards.samples != samples:
        return f"{paths.samples(iteration)} has not been started"
    found = problems(paths, iteration, shards, checksums=False)
    if found:
        return f"{len(found)} of {shards.num_shards} shards missing, first: {next(iter(found.values()))}"
    return None
