"""sample: the E-step. K thoughts for every chunk of this task's shards, block by block.

A block is committed as one Parquet part and recorded in its shard's manifest; a task that
is stopped or killed loses at most the block it was working on.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lt_hpc.data.corpus import Chunk, read_chunks
from lt_hpc.engines.load import load, load_reference, release_memory
from lt_hpc.engines.protocol import Completion, Engine, Ids, SamplingParams
from lt_hpc.latent import diagnostics, seeds
from lt_hpc.latent.layout import Layout
from lt_hpc.run.plan import corpus_name
from lt_hpc.stages import precision
from lt_hpc.stages.estep import Proposals, propose
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, shards, tables
from lt_hpc.store.manifest import FileEntry
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import sample_part
from lt_hpc.store.shards import ShardMap


def run(task: Task) -> None:
    """Complete the shards of this task."""
    config = task.plan.config
    name = corpus_name(config, task.stage.iteration)
    corpus = task.paths.documents(name)
    found = manifest.verified(corpus, task.plan.output(name), checksums=False)
    wanted = ShardMap(
        task.stage.fingerprint, found.counts["chunks"], config.sample.block_chunks, config.sample.num_shards
    )
    shard_map = shards.pin(task.paths, task.stage.iteration, wanted)
    sampler = _Sampler(task, shard_map)
    mine = [_Shard(task, shard_map, n, sampler) for n in task.shards if n < shard_map.num_shards]
    missing = [len(shard.missing) for shard in mine]
    total = sum(len(shard_map.blocks(shard.shard)) for shard in mine)
    task.progress.start(total, "blocks", total - sum(missing))
    for shard in mine:
        shard.run()


@dataclass
class _Sampler:
    """The engine, loaded when the first block needs it and warm for all later ones."""

    task: Task
    shard_map: ShardMap
    engine: Engine | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    checked: bool = False
    tokens: Counter[str] = field(default_factory=Counter)

    def block(self, chunks: list[Chunk]) -> tuple[list[Proposals], Counter[str]]:
        config, iteration = self.task.plan.config, self.task.stage.iteration
        settings = config.sample
        if self.engine is None:
            started = time.monotonic()
            model = self.task.paths.model(iteration - 1)
            manifest.verified(model, self.task.plan.output(f"iter-{iteration - 1:02d}/model"))
            self.engine = _Timed(load(config, model, settings.dtype), self.seconds)
            self.seconds["load"] += time.monotonic() - started
        layout, params = self._parameters()
        draws = [
            [
                seeds.derive(config.seed, "sample", iteration, c.chunk_id, k)
                for k in range(settings.num_samples)
            ]
            for c in chunks
        ]
        proposals = propose(self.engine, layout, chunks, draws, params)
        counts = _count(chunks, proposals)
        self.tokens.update({name: counts[name] for name in ("sampled_tokens", "scored_tokens")})
        return proposals, counts

    def statistics(self) -> dict[str, float]:
        """Of this task up to now: seconds, tokens a second, and the share of the time spent loading."""
        seconds = self.seconds
        return {
            **{f"seconds_{name}": seconds[name] for name in ("load", "sample", "score")},
            "sampled_tokens_a_second": self.tokens["sampled_tokens"] / (seconds["sample"] or 1.0),
            "scored_tokens_a_second": self.tokens["scored_tokens"] / (seconds["score"] or 1.0),
            "load_share": seconds["load"] / (sum(seconds.values()) or 1.0),
        }

    def precision(self, chunks: list[Chunk], proposals: list[Proposals]) -> dict[str, Any] | None:
        """Once a task: what float32 would have changed in a few chunks; None where sampling
        is in float32, or this task has told already."""
        config = self.task.plan.config
        count = config.sample.precision_chunks
        if self.checked or count == 0 or config.sample.dtype == "float32":
            return None
        self.checked = True
        layout, params = self._parameters()
        model = self.task.paths.model(self.task.stage.iteration - 1)
        try:
            measured = precision.measure(
                load_reference(config, model), layout, chunks[:count], proposals[:count], params
            )
        except MemoryError as error:
            print(f"warning: sample.precision_chunks: not measured, {error}", file=sys.stderr)
            return None
        finally:
            release_memory()
        if measured and measured["selection_change"] > diagnostics.WARN_SELECTION_CHANGE:
            change = f"{measured['selection_change']:.0%}"
            print(
                f"warning: sample.dtype={config.sample.dtype} moves {change} of the weight between the "
                "thoughts of a chunk, against float32",
                file=sys.stderr,
            )
        return measured

    def _parameters(self) -> tuple[Layout, SamplingParams]:
        settings, layout = self.task.plan.config.sample, self.task.vocabulary().layout
        return layout, SamplingParams(
            settings.max_thought_tokens, layout.eol, settings.temperature, settings.top_p, settings.top_k
        )


@dataclass
class _Timed:
    """An engine that adds up how many seconds it samples and scores."""

    engine: Engine
    seconds: dict[str, float]

    def sample(
        self, prompts: Sequence[Ids], seeds: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        started = time.monotonic()
        completions = self.engine.sample(prompts, seeds, params)
        self.seconds["sample"] += time.monotonic() - started
        return completions

    def score(
        self, prefixes: Sequence[Ids], continuations: Sequence[Sequence[Ids]]
    ) -> list[list[np.ndarray]]:
        started = time.monotonic()
        scores = self.engine.score(prefixes, continuations)
        self.seconds["score"] += time.monotonic() - started
        return scores


def _count(chunks: list[Chunk], proposals: list[Proposals]) -> Counter[str]:
    counts = Counter(chunks=len(chunks))
    for chunk, of_chunk in zip(chunks, proposals, strict=True):
        lengths = [len(thought) for thought in of_chunk.thoughts]
        counts["cut_prefixes"] += chunk.num_cut > 0
        counts["samples"] += len(lengths)
        counts["sampled_tokens"] += sum(lengths)
        counts["unfinished"] += int((~of_chunk.finished).sum())
        counts["scored_tokens"] += sum(
            length + len(chunk.suffix) for length, ok in zip(lengths, of_chunk.finished, strict=True) if ok
        )
    return counts


@dataclass
class _Shard:
    """One shard on its way to a complete manifest."""

    task: Task
    shard_map: ShardMap
    shard: int
    sampler: _Sampler

    @property
    def folder(self) -> Path:
        return self.task.paths.shard(self.task.stage.iteration, self.shard)

    @cached_property
    def _chunks(self) -> dict[int, Chunk]:
        """The shard's chunks by id, read when its first block is sampled."""
        blocks = self.shard_map.blocks(self.shard)
        start, stop = self.shard_map.chunks(blocks[0]).start, self.shard_map.chunks(blocks[-1]).stop
        name = corpus_name(self.task.plan.config, self.task.stage.iteration)
        folder, fingerprint = self.task.paths.documents(name), self.task.plan.output(name)
        chunks = read_chunks(folder, fingerprint, self.task.view, start, stop)
        return {chunk.chunk_id: chunk for chunk in chunks}

    @cached_property
    def parts(self) -> Parts:
        return Parts(self.folder, "shard", self.shard_map.fingerprint(self.shard))

    @cached_property
    def missing(self) -> list[int]:
        """The blocks that have yet to be sampled."""
        blocks = self.shard_map.blocks(self.shard)
        return [block for block in blocks if self.parts.get(sample_part(block)) is None]

    def run(self) -> None:
        if self.parts.complete:
            return
        for block in self.missing:
            self.task.stop_if_asked()
            started = time.monotonic()
            entry, chunks, proposals = self._write_block(block)
            self.parts.statistics |= self.sampler.statistics()
            self.parts.add(entry, time.monotonic() - started)
            measured = self.sampler.precision(chunks, proposals)
            if measured:
                self.parts.statistics["precision"] = measured
            self.task.progress.advance()
        self.parts.finish()

    def _write_block(self, block: int) -> tuple[FileEntry, list[Chunk], list[Proposals]]:
        ids = self.shard_map.chunks(block)
        chunks = [self._chunks[chunk_id] for chunk_id in ids]
        proposals, counts = self.sampler.block(chunks)
        path = self.folder / sample_part(block)
        columns = {
            "chunk": [chunk.chunk_id for chunk in chunks],
            "thoughts": [[thought.tolist() for thought in p.thoughts] for p in proposals],
            "finished": [p.finished.tolist() for p in proposals],
            "log_q": [p.log_q.tolist() for p in proposals],
            "log_prior": [p.log_prior.tolist() for p in proposals],
            "log_likelihood": [p.log_likelihood.tolist() for p in proposals],
            "suffix_length": [len(chunk.suffix) for chunk in chunks],
        }
        tables.write(path, tables.SAMPLES, columns)
        return manifest.describe(path, counts), chunks, proposals
