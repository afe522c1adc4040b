"""merge: verify every shard, weigh its thoughts, select among them.

The gate of the chain: nothing is selected before all shards verify with their checksums,
and the error names those that do not. Selection of a chunk depends on its log-weights
and its seed alone (and, for tempered weights, on the one exponent of the iteration).
Memory: some blocks and, for the figures, 16 bytes a chunk, about three times that where they are sorted; for
tempered weights 8 bytes a thought before that.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import assert_never

import numpy as np
import pyarrow as pa

from lt_hpc.config.schema import MergeConfig
from lt_hpc.errors import IncompleteError
from lt_hpc.latent import seeds, weights
from lt_hpc.stages.choice import Chosen, choose
from lt_hpc.stages.selection import Summary, Weighed, precision
from lt_hpc.stages.shards import verified_shards
from lt_hpc.stages.task import Task
from lt_hpc.stages.thoughts import Thoughts, read
from lt_hpc.store import figures, manifest, tables
from lt_hpc.store.atomic import clean_temporaries
from lt_hpc.store.lists import column, without_last
from lt_hpc.store.manifest import FileEntry, Manifest
from lt_hpc.store.paths import selected_part, shard_folder
from lt_hpc.store.shards import ShardMap


def run(task: Task) -> None:
    """Write selected/ from the samples of the iteration.

    Raises:
        IncompleteError: naming the shards that are missing or corrupt.
    """
    started = time.monotonic()
    shard_map = verified_shards(task, "samples")
    folder = task.output
    clean_temporaries(folder)
    task.progress.start(shard_map.num_shards, "shards")
    settings, alpha = task.plan.config.merge, _exponent(task, shard_map, task.plan.config.merge)
    summary = Summary(settings, alpha, shard_map.num_chunks, *_thoughts_of_a_chunk(task))
    files: list[FileEntry] = []
    for shard in range(shard_map.num_shards):
        files.append(_select(task, shard_map, shard, summary))
        task.progress.advance()
    if summary.chunks != shard_map.num_chunks:
        raise IncompleteError(
            f"{task.folder('samples')}: its shards hold {summary.chunks} of {shard_map.num_chunks} chunks"
        )
    expected = shard_map.num_chunks * summary.num_samples
    if summary.samples != expected:
        raise IncompleteError(
            f"{task.folder('samples')}: its shards hold {summary.samples} of {expected} thoughts"
        )
    statistics = figures.to_json(summary.statistics(precision(_records(task, shard_map))))
    record = Manifest(
        stage="selected",
        fingerprint=task.stage.fingerprint,
        complete=True,
        files=tuple(files),
        counts={"chunks": summary.chunks},
        seconds=time.monotonic() - started,
        statistics=statistics,
        provenance=manifest.provenance(),
    )
    manifest.write(folder, record)


def _thoughts_of_a_chunk(task: Task) -> tuple[int, int]:
    """How many there are on average, and at most: those of the iterations that are pooled."""
    sample = task.plan.config.sample
    pooled = min(sample.reuse + 1, task.stage.iteration)
    return pooled * sample.num_samples, pooled * sample.most_samples


def _records(task: Task, shard_map: ShardMap) -> Iterator[Manifest]:
    for shard in range(shard_map.num_shards):
        record = manifest.read(shard_folder(task.folder("samples"), shard))
        if record is not None:
            yield record


def _exponent(task: Task, shard_map: ShardMap, settings: MergeConfig) -> float:
    """Alpha of w^alpha: 1 unless the weights are tempered."""
    match settings.weights:
        case "exact" | "length_normalised":
            return 1.0
        case "tempered":
            # Log-weights of the whole iteration at once, [chunks, K] of each K.
            every: dict[int, np.ndarray] = {}
            for shard in range(shard_map.num_shards):
                for thoughts in itertools.chain.from_iterable(read(task, shard_map, shard)):
                    log_w = thoughts.log_w
                    alike = every.setdefault(log_w.shape[1], np.empty((0, log_w.shape[1])))
                    start = len(alike)
                    alike.resize((start + len(log_w), log_w.shape[1]), refcheck=False)
                    alike[start:] = log_w
            return weights.tempered_exponent([every[count] for count in sorted(every)], settings.target_ess)
        case _:
            assert_never(settings.weights)


def _select(task: Task, shard_map: ShardMap, shard: int, summary: Summary) -> FileEntry:
    """Write the selection of one shard, and show it to the summary."""
    path, first = task.output / selected_part(shard), summary.chunks
    with tables.writer(path, tables.SELECTED) as put:
        for groups in read(task, shard_map, shard):
            weighed = [_weighed(task, thoughts, summary.alpha) for thoughts in groups]
            put(_in_order([_columns(one.thoughts, one.chosen) for one in weighed]))
            summary.add(weighed)
    return manifest.describe(path, {"chunks": summary.chunks - first})


def _weighed(task: Task, thoughts: Thoughts, alpha: float) -> Weighed:
    config, iteration = task.plan.config, task.stage.iteration
    log_w = thoughts.selection_log_weights(config.merge, alpha)
    streams = seeds.Streams(config.seed, "select", (iteration,), thoughts.chunk.tolist())
    return Weighed(thoughts, log_w, choose(config.merge, log_w, thoughts.kinds, thoughts.usable, streams))


def _in_order(parts: list[dict[str, pa.Array]]) -> dict[str, pa.Array]:
    """Columns of all parts together, in the order of the chunks."""
    if len(parts) == 1:
        return parts[0]
    whole = pa.concat_tables([pa.table(one, tables.SELECTED) for one in parts]).combine_chunks()
    whole = whole.take(np.argsort(whole["chunk"].to_numpy()))
    return {name: whole[name] for name in tables.SELECTED.names}


def _columns(thoughts: Thoughts, chosen: Chosen) -> dict[str, pa.Array]:
    """The columns of `tables.SELECTED`."""
    num_samples = thoughts.num_samples
    place = np.where(chosen.samples >= 0, chosen.rows * num_samples + chosen.samples, -1)
    ends = np.append(0, np.cumsum(chosen.counts))
    return {
        "chunk": pa.array(thoughts.chunk),
        "samples": column(chosen.samples.astype(np.int32), ends),
        "thoughts": column(without_last(thoughts.ids, place), ends),  # each without its <EOL>
        "loss_weights": column(chosen.loss_weights, ends),
        "log_weights": column(thoughts.log_w.ravel(), np.arange(len(thoughts.chunk) + 1) * num_samples),
        "ess": pa.array(thoughts.ess),
    }
