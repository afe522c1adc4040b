"""The work of a sharded stage: blocks of chunks (or items), each committed as one part of its shard.

A task that is stopped or killed loses at most the blocks that it has taken and not committed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lt_hpc.errors import IncompleteError
from lt_hpc.run.progress import Progress
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, shards
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import block_part, shard_folder
from lt_hpc.store.shards import ShardMap


@dataclass
class _Left:
    """What a task has yet to commit: the number of blocks of each shard; `last`: when it last did, on the
    monotonic clock."""

    progress: Progress
    blocks: dict[Parts, int]
    last: float = 0.0


@dataclass
class Block:
    """A block that has yet to be made: the ids of its `chunks`, those of its whole shard, and the
    parts of the shard, whose `statistics` are saved with each commit."""

    chunks: range
    shard_chunks: range
    path: Path
    parts: Parts
    left: _Left
    started: float = field(default_factory=time.monotonic)

    def commit(self, counts: Mapping[str, int]) -> None:
        """Record the file that was written to `path`, with its counts (chunks, tokens, ...). Seconds in which
        several blocks were worked on are counted once."""
        entry = manifest.describe(self.path, counts)
        self.parts.add(entry, time.monotonic() - max(self.started, self.left.last))
        self.left.last = time.monotonic()
        self.left.blocks[self.parts] -= 1
        if not self.left.blocks[self.parts]:
            self.parts.finish()
        self.left.progress.advance()


def missing_blocks(task: Task, num_chunks: int, block_chunks: int) -> Iterator[Block]:
    """The blocks of this task's shards that are not done, of a stage over `num_chunks` chunks. Each has to be
    committed, in any order: with its last one a shard is complete.

    Raises:
        Interrupted: in the place of the next block, when a signal asked the task to stop.
        IncompleteError: when the output folder holds work of other settings.
    """
    wanted = ShardMap(task.stage.fingerprint, num_chunks, block_chunks, task.stage.shards)
    shard_map = shards.pin(task.output, wanted)
    mine = [n for n in task.shards if n < shard_map.num_shards]
    opened = {n: Parts(shard_folder(task.output, n), "shard", shard_map.fingerprint(n)) for n in mine}
    missing = {
        n: [b for b in shard_map.blocks(n) if parts.get(block_part(b)) is None] for n, parts in opened.items()
    }
    left = _Left(task.progress, {parts: len(missing[n]) for n, parts in opened.items()})
    total = sum(len(shard_map.blocks(n)) for n in mine)
    task.progress.start(total, "blocks", total - sum(left.blocks.values()))
    for n, parts in opened.items():
        if not missing[n] and not parts.complete:
            parts.finish()
        for block in missing[n]:
            task.stop_if_asked()
            path = parts.folder / block_part(block)
            yield Block(shard_map.chunks(block), shard_map.shard_chunks(n), path, parts, left)


def verified_shards(task: Task, role: str) -> ShardMap:
    """The pinned shard map of an input, once all of its shards verify with their checksums.

    Raises:
        IncompleteError: naming the shards that are missing or corrupt, which are to be made again.
    """
    folder = task.folder(role)
    shard_map = shards.read(folder)
    if shard_map is None:
        raise IncompleteError(f"{folder}: no shard has been started")
    missing = shards.problems(folder, shard_map, checksums=True)
    if missing:
        for shard in missing:
            manifest.reopen(shard_folder(folder, shard))
        names = ", ".join(str(shard) for shard in missing)
        raise IncompleteError(f"shards {names} are not done; first: {next(iter(missing.values()))}")
    return shard_map


def part_files(folder: Path, shard_map: ShardMap, shard: int) -> list[Path]:
    """The parts of a finished shard, in order."""
    return [shard_folder(folder, shard) / block_part(block) for block in shard_map.blocks(shard)]
