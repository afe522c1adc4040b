"""merge: verify every shard, weigh its thoughts, select among them.

The gate of the chain: nothing is selected before all shards verify with their checksums,
and the error names those that do not. Selection of a chunk depends on its log-weights
and its seed alone (and, for tempered weights, on the one exponent of the iteration).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, assert_never

import numpy as np

from lt_hpc.config.schema import MergeConfig
from lt_hpc.errors import IncompleteError
from lt_hpc.latent import resampling, seeds, weights
from lt_hpc.stages.selection import Summary, precision
from lt_hpc.stages.shards import verified_shards
from lt_hpc.stages.task import Task
from lt_hpc.stages.thoughts import Thoughts, read
from lt_hpc.store import figures, manifest, tables
from lt_hpc.store.atomic import clean_temporaries
from lt_hpc.store.manifest import FileEntry, Manifest
from lt_hpc.store.paths import selected_part, shard_folder
from lt_hpc.store.shards import ShardMap

LEAST_WEIGHT = 1e-4
"""Thoughts of less probability than that are not trained on: their tokens would cost what others' do."""


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
    settings = task.plan.config.merge
    alpha = _exponent(task, shard_map, settings)
    summary = Summary(settings, alpha)
    files: list[FileEntry] = []
    expected = 0
    for shard in range(shard_map.num_shards):
        thoughts = read(task, shard_map, shard)
        wrong = np.flatnonzero(thoughts.chunk != np.arange(expected, expected + len(thoughts.chunk)))
        if len(wrong):
            raise IncompleteError(
                f"shard {shard}: chunk {thoughts.chunk[wrong[0]]} where {expected + wrong[0]} was expected"
            )
        files.append(_select(task, shard, thoughts, summary))
        expected += len(thoughts.chunk)
        task.progress.advance()
    if expected != shard_map.num_chunks:
        raise IncompleteError(f"the shards hold {expected} of {shard_map.num_chunks} chunks")
    statistics = figures.to_json(summary.statistics(precision(_records(task, shard_map))))
    record = Manifest(
        stage="selected",
        fingerprint=task.stage.fingerprint,
        complete=True,
        files=tuple(files),
        counts={"chunks": expected},
        seconds=time.monotonic() - started,
        statistics=statistics,
        provenance=manifest.provenance(),
    )
    manifest.write(folder, record)


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
            # Log-weights of the whole iteration at once: 8 K bytes per chunk.
            every = [read(task, shard_map, shard).log_w for shard in range(shard_map.num_shards)]
            return weights.tempered_exponent(np.concatenate(every), settings.target_ess)
        case _:
            assert_never(settings.weights)


def _select(task: Task, shard: int, thoughts: Thoughts, summary: Summary) -> FileEntry:
    config, iteration = task.plan.config, task.stage.iteration
    settings = config.merge
    log_w = thoughts.selection_log_weights(settings, summary.alpha)
    columns: dict[str, list[Any]] = {name: [] for name in tables.SELECTED.names}
    for row, chunk in enumerate(thoughts.chunk.tolist()):
        generator = seeds.generator(config.seed, "select", iteration, chunk)
        chosen, loss_weights = (
            choose(settings, log_w[row], thoughts.kinds[row], generator)
            if thoughts.usable[row]
            else ([-1] * settings.num_selected, [1.0] * settings.num_selected)
        )
        columns["chunk"].append(chunk)
        columns["samples"].append(chosen)
        columns["thoughts"].append([thoughts.ids(row, k)[:-1] if k >= 0 else [] for k in chosen])
        columns["loss_weights"].append(loss_weights)
    columns["log_weights"] = thoughts.log_w.tolist()
    columns["ess"] = weights.effective_sample_size(thoughts.log_w).tolist()
    summary.add(thoughts, log_w, columns["samples"])
    path = task.output / selected_part(shard)
    tables.write(path, tables.SELECTED, columns)
    return manifest.describe(path, {"chunks": len(columns["chunk"])})


def choose(
    settings: MergeConfig, log_w_K: np.ndarray, kinds_K: np.ndarray, generator: np.random.Generator
) -> tuple[list[int], list[float]]:
    """Indices of the thoughts of one chunk to train on, and the weight of each one's loss. Weighted: every
    different one with the probability with which the rule would draw it, so that the expected loss, and its
    gradient, are those of one draw. -1 where no thought has any weight."""
    match settings.select:
        case "one":
            chosen = resampling.select(settings.method, log_w_K, settings.num_selected, generator)
            return chosen.tolist(), [1.0] * len(chosen)
        case "weighted":
            drawn = weights.of_different(resampling.probabilities(settings.method, log_w_K), kinds_K)
            kept = np.flatnonzero(drawn >= LEAST_WEIGHT)
            if not len(kept):
                return [-1], [1.0]
            return kept.tolist(), (drawn[kept] / drawn[kept].sum()).tolist()
        case _:
            assert_never(settings.select)
