"""merge: verify every shard, weigh its thoughts, select one a chunk.

The gate of the chain: nothing is selected before all shards verify with their checksums,
and the exit code says which are missing. Selection of a chunk depends on its log-weights
and its seed alone.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from lt_hpc.errors import IncompleteError
from lt_hpc.latent import seeds, weights
from lt_hpc.stages.context import Task
from lt_hpc.store import manifest, shards, tables
from lt_hpc.store.atomic import clean_temporaries
from lt_hpc.store.manifest import FileEntry, Manifest
from lt_hpc.store.paths import sample_part, selected_part
from lt_hpc.store.shards import ShardMap

NUM_EXAMPLES = 5
HISTOGRAM_BINS = 20


def run(task: Task) -> None:
    """Write selected/ from the samples of the iteration.

    Raises:
        IncompleteError: naming the shards that are missing or corrupt.
    """
    started = time.monotonic()
    iteration = task.stage.iteration
    shard_map = shards.read(task.paths, iteration)
    if shard_map is None:
        raise IncompleteError(f"{task.paths.samples(iteration)}: no shard has been started")
    missing = shards.problems(task.paths, iteration, shard_map, checksums=True)
    if missing:
        for shard in missing:
            manifest.reopen(task.paths.shard(iteration, shard))
        names = ", ".join(str(shard) for shard in missing)
        raise IncompleteError(f"shards {names} are not done; first: {next(iter(missing.values()))}")
    folder = task.paths.selected(iteration)
    clean_temporaries(folder)
    summary = _Summary()
    files: list[FileEntry] = []
    task.progress.start(shard_map.num_shards, "shards")
    expected = 0
    for shard in range(shard_map.num_shards):
        files.append(_merge_shard(task, shard_map, shard, summary, expected))
        expected += files[-1].counts["chunks"]
        task.progress.advance()
    if expected != shard_map.num_chunks:
        raise IncompleteError(f"the shards hold {expected} of {shard_map.num_chunks} chunks")
    record = Manifest(
        "selected", task.stage.fingerprint, True, tuple(files), {"chunks": expected},
        time.monotonic() - started, summary.statistics(), manifest.provenance(),
    )  # fmt: skip
    manifest.write(folder, record)


def _merge_shard(
    task: Task, shard_map: ShardMap, shard: int, summary: _Summary, first_chunk: int
) -> FileEntry:
    config, iteration = task.plan.config, task.stage.iteration
    eol = task.vocabulary().layout.eol
    columns: dict[str, list[Any]] = {name: [] for name in tables.SELECTED.names}
    for block in shard_map.blocks(shard):
        path = task.paths.shard(iteration, shard) / sample_part(block)
        for row in tables.read(path, tables.SAMPLES).to_pylist():
            expected = first_chunk + len(columns["chunk"])
            if row["chunk"] != expected:
                raise IncompleteError(f"{path}: chunk {row['chunk']} where {expected} was expected")
            log_w = weights.log_weights(
                np.array(row["log_prior"]), np.array(row["log_likelihood"]), np.array(row["log_q"]),
                np.array(row["finished"]),
            )  # fmt: skip
            uniform = seeds.uniforms(seeds.derive(config.seed, "select", iteration, row["chunk"]), 1)[0]
            chosen = (
                weights.resample(log_w, uniform)
                if config.merge.method == "resample"
                else weights.argmax(log_w)
            )
            thought = row["thoughts"][chosen] if chosen >= 0 else []
            columns["chunk"].append(row["chunk"])
            columns["sample"].append(chosen)
            columns["thought"].append(thought[:-1] if thought and thought[-1] == eol else thought)
            columns["log_weights"].append(log_w.tolist())
            columns["ess"].append(float(weights.effective_sample_size(log_w)))
            summary.add(row, log_w, chosen)
    path = task.paths.selected(iteration) / selected_part(shard)
    tables.write(path, tables.SELECTED, columns)
    return manifest.describe(path, {"chunks": len(columns["chunk"])})


class _Summary:
    """Statistics of a selection for the report."""

    def __init__(self) -> None:
        self.ess: list[float] = []
        self.largest: list[float] = []
        self.bound: list[float] = []
        self.num_samples = 0
        self.unfinished = 0
        self.selected_unfinished = 0
        self.fallback = 0
        self.lengths: list[int] = []
        self.log_w: list[float] = []
        self.examples: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any], log_w: np.ndarray, chosen: int) -> None:
        finished = np.array(row["finished"])
        self.num_samples = len(finished)
        self.unfinished += int((~finished).sum())
        self.fallback += chosen < 0
        self.selected_unfinished += chosen >= 0 and not finished[chosen]
        if finished.any():
            normal = weights.normalised(log_w)
            self.ess.append(float(weights.effective_sample_size(log_w)))
            self.largest.append(float(normal.max()))
            self.bound.append(float(weights.log_mean_exp(log_w)))
            self.lengths += [len(t) for t, ok in zip(row["thoughts"], finished, strict=True) if ok]
            self.log_w += log_w[finished].tolist()
            if len(self.examples) < NUM_EXAMPLES:
                self.examples.append(
                    {
                        "chunk": row["chunk"],
                        "thoughts": row["thoughts"],
                        "weights": normal.tolist(),
                        "selected": chosen,
                    }
                )

    def statistics(self) -> dict[str, Any]:
        """JSON-able figures; bounds and weights in nats a chunk."""
        total = len(self.ess) + self.fallback
        counts, edges = np.histogram(self.ess, bins=HISTOGRAM_BINS, range=(1, max(2, self.num_samples)))
        spread = len(self.log_w) > 1 and np.std(self.lengths) > 0 and np.std(self.log_w) > 0
        return {
            "num_samples": self.num_samples,
            "ess_mean": float(np.mean(self.ess)) if self.ess else 0.0,
            "ess_histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
            "largest_weight_mean": float(np.mean(self.largest)) if self.largest else 0.0,
            "train_bound_nats_a_chunk": float(np.mean(self.bound)) if self.bound else None,
            "unfinished_share": self.unfinished / max(1, total * self.num_samples),
            "selected_unfinished": int(self.selected_unfinished),
            "fallback_chunks": int(self.fallback),
            "length_correlation": float(np.corrcoef(self.lengths, self.log_w)[0, 1]) if spread else None,
            "examples": self.examples,
        }
