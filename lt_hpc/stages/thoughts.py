"""The thoughts of a shard as flat arrays, with their exact log-weights: chunks with as many thoughts are
together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import numpy as np
import pyarrow as pa

from lt_hpc.config.schema import MergeConfig
from lt_hpc.errors import IncompleteError
from lt_hpc.latent import weights
from lt_hpc.stages.shards import part_files
from lt_hpc.stages.task import Task
from lt_hpc.store import tables
from lt_hpc.store.lists import Lists, first_equal
from lt_hpc.store.paths import shard_folder
from lt_hpc.store.shards import ShardMap

MOST_CHUNKS = 2**15
MOST_BYTES = 2**25
"""Of thoughts that are read together, one block at least."""


@dataclass(frozen=True)
class Thoughts:
    """The thoughts of some chunks that have K each, in chunk order. Arrays [N] and [N, K]; log-weights are
    the exact ones, in nats; `ids`: all N K thoughts end to end, each with its <EOL>; `document`: the first
    chunk of each chunk's."""

    table: pa.Table
    chunk: np.ndarray
    document: np.ndarray
    cut: np.ndarray
    log_w: np.ndarray
    ids: Lists
    suffix_lengths: np.ndarray

    def selection_log_weights(self, settings: MergeConfig, alpha: float) -> np.ndarray:
        """The log-weights [N, K] that selection goes by."""
        match settings.weights:
            case "exact":
                return self.log_w
            case "tempered":
                return weights.tempered(self.log_w, alpha)
            case "length_normalised":
                return weights.length_normalised(self.log_w, self.lengths + self.suffix_lengths[:, None])
            case _:
                assert_never(settings.weights)

    @property
    def num_samples(self) -> int:
        """K."""
        return int(self.log_w.shape[1])

    @cached_property
    def lengths(self) -> np.ndarray:
        """[N, K] tokens, <EOL> included."""
        return np.diff(self.ids[1]).reshape(self.log_w.shape)

    @cached_property
    def normalised(self) -> np.ndarray:
        """[N, K] weights that sum to 1."""
        return weights.normalised(self.log_w)

    @cached_property
    def ess(self) -> np.ndarray:
        """[N] effective sample size of the exact weights."""
        return weights.inverse_simpson(self.normalised)

    @cached_property
    def usable(self) -> np.ndarray:
        """[N] whether any of a chunk's thoughts came to its end by itself."""
        return np.asarray(~self.cut.all(axis=1))

    @cached_property
    def kinds(self) -> np.ndarray:
        """[N, K] index of the first thought of the chunk with the same ids."""
        return first_equal(self.ids, self.num_samples)


def read(task: Task, shard_map: ShardMap, shard: int) -> Iterator[list[Thoughts]]:
    """The thoughts of a shard that has been verified, some whole blocks at a time in chunk order; of these
    the chunks with as many thoughts together, those with the fewest first. What is worked out of a chunk by
    itself so does not depend on others.

    Raises:
        IncompleteError: when a chunk is missing, or twice there.
    """
    found, size, next_chunk = list[pa.Table](), 0, shard_map.shard_chunks(shard).start
    most = max(1, MOST_CHUNKS // task.plan.config.merge.num_selected)
    for file in part_files(task.folder("samples"), shard_map, shard):
        table = tables.read(file, tables.POOLED)
        chunk = table["chunk"].to_numpy()
        expected = np.arange(next_chunk, next_chunk + len(chunk))
        for wrong in np.flatnonzero(chunk != expected)[:1]:
            raise IncompleteError(
                f"{shard_folder(task.folder('samples'), shard)}: chunk {chunk[wrong]} where "
                f"{expected[wrong]} was expected"
            )
        next_chunk += len(chunk)
        if found and (size + table.nbytes > MOST_BYTES or sum(map(len, found)) + len(table) > most):
            yield _by_count(pa.concat_tables(found).combine_chunks())
            found, size = [], 0
        found.append(table)
        size += table.nbytes
    if found:
        yield _by_count(pa.concat_tables(found).combine_chunks())


def _by_count(table: pa.Table) -> list[Thoughts]:
    counts = np.diff(tables.flat_lists(table["cut"])[1])
    different = np.unique(counts)
    if len(different) == 1:
        return [_thoughts(table, int(different[0]))]
    return [_thoughts(table.take(np.flatnonzero(counts == count)), int(count)) for count in different]


def _thoughts(table: pa.Table, num_samples: int) -> Thoughts:
    columns = {
        name: tables.matrix(table[name], num_samples)
        for name in ("cut", "log_prior", "log_likelihood", "log_proposal")
    }
    return Thoughts(
        table=table,
        chunk=table["chunk"].to_numpy(),
        document=table["document"].to_numpy(),
        cut=columns["cut"],
        log_w=weights.log_weights(columns["log_prior"], columns["log_likelihood"], columns["log_proposal"]),
        ids=tables.nested_lists(table["thoughts"])[0],
        suffix_lengths=table["suffix_length"].to_numpy(),
    )
