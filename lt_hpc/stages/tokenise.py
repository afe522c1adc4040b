"""tokenise: a corpus that is too much for one task as token ids, part file by part file.

Of N shards, shard n has the parts n, n + N, n + 2 N, ... of the corpus: how many there are, nobody knows
before it has been read. Each task passes over the documents of others as fast as their source allows. Parts
count their chunks from 0; gather counts them through.
"""

from __future__ import annotations

from lt_hpc.stages.documents import Documents, refuse_changed, share_of
from lt_hpc.stages.task import Task
from lt_hpc.stages.tokenised import Tokeniser, Tokenisers
from lt_hpc.store import shards
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import shard_folder
from lt_hpc.store.shards import ShardMap


def run(task: Task) -> None:
    """Complete the shards of this task."""
    pinned, fingerprint = shards.read(task.output), task.stage.fingerprint
    kept = pinned is not None and pinned.samples == fingerprint
    number = pinned.num_shards if pinned is not None and kept else task.stage.shards
    # As if a shard had as many blocks as there are shards: its fingerprint then says of how many it is one.
    shard_map = shards.pin(task.output, ShardMap(fingerprint, number**2, 1, number))
    mine = [n for n in task.shards if n < shard_map.num_shards]
    opened = {n: Parts(shard_folder(task.output, n), "shard", shard_map.fingerprint(n)) for n in mine}
    missing = [n for n in mine if not opened[n].complete]
    task.progress.start(len(mine), "shards", len(mine) - len(missing))
    if not missing:
        return
    name = task.paths.documents("corpus", task.stage.iteration or None).name
    with Tokenisers(Tokeniser(task.input("base"), task.plan.config)) as tokenisers:
        for shard in missing:
            refuse_changed(task, name)
            documents = Documents(task, name, share_of(shard, shard_map.num_shards))
            documents.fill(opened[shard], tokenisers)
            refuse_changed(task, name)  # and not while they were read
            opened[shard].finish()
            task.progress.advance()
