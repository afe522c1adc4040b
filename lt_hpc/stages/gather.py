"""gather: the parts of a corpus that the tasks of an array have tokenised, with their chunks counted through.

Its output is to the byte what `prepare` makes of the same source by itself.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from lt_hpc.errors import ConfigError
from lt_hpc.stages.documents import Documents, counted_from, is_full
from lt_hpc.stages.shards import verified_shards
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, tables
from lt_hpc.store.manifest import FileEntry
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import documents_part, shard_folder


def run(task: Task) -> None:
    """Write the folder of the corpus.

    Raises:
        IncompleteError: naming the shards that are missing or corrupt.
        ConfigError: when the shards have not read the same documents, or too little of all can be used.
    """
    pieces = _pieces(task)
    documents = Documents(task, task.stage.output)
    parts = Parts(task.output, "documents", task.stage.fingerprint)
    task.progress.start(len(pieces), "parts")
    for part, (folder, piece) in enumerate(pieces):
        task.stop_if_asked()
        entry, started = parts.get(piece.name), time.monotonic()
        if entry is None:
            path = task.output / piece.name
            with tables.writer(path, tables.DOCUMENTS) as put:
                for rows in tables.row_groups(folder / piece.name, tables.DOCUMENTS):
                    counted = counted_from(rows, 0, documents.counts["chunks"])
                    put({name: counted[name] for name in tables.DOCUMENTS.names})
            entry = manifest.describe(path, piece.counts)
            parts.add(entry, time.monotonic() - started)
        documents.count(entry)
        task.progress.advance(note=f"part {part + 1}")
    documents.finish(parts, is_last=True)


def _pieces(task: Task) -> list[tuple[Path, FileEntry]]:
    """The parts of all shards in their order, each with the folder it is in."""
    shard_map, folder = verified_shards(task, "tokenised"), task.folder("tokenised")
    found = {}
    for shard in range(shard_map.num_shards):
        own = shard_folder(folder, shard)
        for entry in manifest.verified(own, shard_map.fingerprint(shard), checksums=False).files:
            found[entry.name] = own, entry
    names = list(itertools.takewhile(found.__contains__, map(documents_part, itertools.count())))
    if len(names) < len(found) or not all(is_full(found[name][1]) for name in names[:-1]):
        source = task.plan.config.corpus.source
        raise ConfigError(
            f"corpus.source={source!r}: tasks read different documents of it, so it changed while they did; "
            "of the hub, give a commit as corpus.revision, and launch again"
        )
    return [found[name] for name in names]
