"""The thoughts of a shard as arrays, with their exact log-weights."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import numpy as np
import pyarrow as pa

from lt_hpc.config.schema import MergeConfig
from lt_hpc.latent import weights
from lt_hpc.stages.shards import part_files
from lt_hpc.stages.task import Task
from lt_hpc.store import tables
from lt_hpc.store.shards import ShardMap


@dataclass(frozen=True)
class Thoughts:
    """The thoughts of some chunks, in chunk order. Arrays [N] and [N, K]; log-weights are the
    exact ones, in nats; lengths in tokens, <EOL> included; `document`: the first chunk of each chunk's."""

    table: pa.Table
    chunk: np.ndarray
    document: np.ndarray
    cut: np.ndarray
    log_w: np.ndarray
    lengths: np.ndarray
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

    def ids(self, row: int, sample: int) -> np.ndarray:
        """A thought's token ids, <EOL> included."""
        return np.asarray(self.table["thoughts"][row].values[sample].values)

    @cached_property
    def usable(self) -> np.ndarray:
        """[N] whether any of a chunk's thoughts came to its end by itself."""
        return np.asarray(~self.cut.all(axis=1))

    @cached_property
    def kinds(self) -> np.ndarray:
        """[N, K] index of the first thought of the chunk with the same ids."""
        (ids, edges), _ = tables.nested_lists(self.table["thoughts"])
        every = [ids[begin:end].tobytes() for begin, end in itertools.pairwise(edges)]
        num_samples, found = self.log_w.shape[1], []
        for row in range(0, len(every), num_samples):
            first: dict[bytes, int] = {}
            found += [first.setdefault(one, k) for k, one in enumerate(every[row : row + num_samples])]
        return np.array(found, np.int64).reshape(self.log_w.shape)


def read(task: Task, shard_map: ShardMap, shard: int) -> Thoughts:
    """The thoughts of a shard that has been verified, in chunk order."""
    num_samples = task.plan.config.sample.num_samples
    files = part_files(task.folder("samples"), shard_map, shard)
    parts = [tables.read(file, tables.SAMPLES) for file in files]
    table = pa.concat_tables(parts).combine_chunks() if parts else tables.SAMPLES.empty_table()
    columns = {
        name: tables.matrix(table[name], num_samples)
        for name in ("cut", "log_prior", "log_likelihood", "log_proposal")
    }
    lengths = pa.compute.list_value_length(pa.compute.list_flatten(table["thoughts"]))
    return Thoughts(
        table=table,
        chunk=table["chunk"].to_numpy(),
        document=table["document"].to_numpy(),
        cut=columns["cut"],
        log_w=weights.log_weights(columns["log_prior"], columns["log_likelihood"], columns["log_proposal"]),
        lengths=lengths.to_numpy().reshape(-1, num_samples),
        suffix_lengths=table["suffix_length"].to_numpy(),
    )
