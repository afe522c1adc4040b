"""sample: the E-step. Thoughts for every chunk of this task's shards, block by block. How many each chunk
gets is known before any is drawn.

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
from typing import Any

import numpy as np

from lt_hpc.data.corpus import Chunk
from lt_hpc.engines.load import load, load_reference, release_memory
from lt_hpc.engines.protocol import Completion, Engine, Ids, SamplingParams
from lt_hpc.latent import diagnostics, seeds
from lt_hpc.latent.layout import NUM_JOINT_MARKERS, NUM_MARKERS
from lt_hpc.stages import precision
from lt_hpc.stages.allocation import thoughts_per_chunk
from lt_hpc.stages.estep import Proposals, Scheme, propose
from lt_hpc.stages.reuse import Earlier, pool
from lt_hpc.stages.shards import Block, missing_blocks
from lt_hpc.stages.task import Task
from lt_hpc.store import tables

COMPARED_SHARDS = 8
"""Shards of an E-step, at most, whose tasks compare their thoughts with float32."""


def run(task: Task) -> None:
    """Complete the shards of this task."""
    settings = task.plan.config.sample
    num_chunks = task.record("corpus", checksums=False).counts["chunks"]
    sampler = _Sampler(task, num_chunks)
    for block in missing_blocks(task, num_chunks, settings.block_chunks):
        chunks = sampler.chunks(block)
        new, counts = sampler.sample(chunks)
        proposals = sampler.with_earlier(chunks, new, counts)
        documents = [sampler.documents[chunk.chunk_id] for chunk in chunks]
        schema = tables.POOLED if sampler.earlier.iterations else tables.SAMPLES
        tables.write(block.path, schema, _columns(chunks, documents, proposals))
        assert sampler.engine is not None
        block.parts.attention = sampler.engine.attention
        block.parts.statistics |= sampler.statistics()
        block.commit(counts)
        measured = sampler.precision(chunks, new)  # after the commit: it may run out of memory
        if measured:
            block.parts.statistics["precision"] = measured


def compares(shards: Sequence[int], count: int) -> bool:
    """Whether a task with these of `count` shards loads the model once more, in float32: that takes minutes,
    so few do. Pure."""
    return any(shard % -(-count // COMPARED_SHARDS) == 0 for shard in shards)


@dataclass
class _Sampler:
    """The engine, loaded when the first block needs it and warm for all later ones."""

    task: Task
    num_chunks: int
    engine: Engine | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    checked: bool = False
    tokens: Counter[str] = field(default_factory=Counter)
    shard_chunks: range = range(0)
    read: dict[int, Chunk] = field(default_factory=dict)
    documents: dict[int, int] = field(default_factory=dict)

    def chunks(self, block: Block) -> list[Chunk]:
        """The chunks of a block; those of its whole shard are read at once."""
        if self.shard_chunks != block.shard_chunks:
            start, stop = block.shard_chunks.start, block.shard_chunks.stop
            corpus = self.task.documents("corpus", start, stop)
            firsts = corpus.first_chunk[corpus.document].tolist()
            found = [
                (chunk, first)
                for chunk, first in zip(corpus.chunks(), firsts, strict=True)
                if start <= chunk.chunk_id < stop
            ]
            self.read = {chunk.chunk_id: chunk for chunk, _ in found}
            self.documents = {chunk.chunk_id: first for chunk, first in found}
            self.shard_chunks = block.shard_chunks
        return [self.read[chunk_id] for chunk_id in block.chunks]

    def sample(self, chunks: list[Chunk]) -> tuple[list[Proposals], Counter[str]]:
        """Thoughts of some chunks, and what they amount to."""
        config, iteration = self.task.plan.config, self.task.stage.iteration
        settings = config.sample
        if self.engine is None:
            started = time.monotonic()
            model = self.task.input("model")
            self.engine = _Timed(load(config, model, settings.dtype), self.seconds)
            self.seconds["load"] += time.monotonic() - started
            self.task.progress.ready()
        draws = [
            [
                seeds.derive(config.seed, "sample", iteration, c.chunk_id, k)
                for k in range(self.allocation[c.chunk_id])
            ]
            for c in chunks
        ]
        scheme = self._scheme()
        proposals = propose(self.engine, self.task.vocabulary.layout, chunks, draws, scheme)
        counts = _count(chunks, proposals, scheme)
        self.tokens.update({name: counts[name] for name in ("sampled_tokens", "scored_tokens")})
        return proposals, counts

    @cached_property
    def earlier(self) -> Earlier:
        """The iterations whose thoughts are weighed again."""
        return Earlier(self.task)

    def with_earlier(
        self, chunks: list[Chunk], new: list[Proposals], counts: Counter[str]
    ) -> list[Proposals]:
        """The new thoughts of a block with those of earlier iterations; adds to the `counts` of the block."""
        earlier = self.earlier
        if not earlier.iterations:
            return new
        assert self.engine is not None
        numbers = range(chunks[0].chunk_id, chunks[-1].chunk_id + 1)
        old = {n: earlier.drawn(n, numbers) for n in earlier.iterations}
        engines = {self.task.stage.iteration: self.engine}
        engines |= {n: _Timed(earlier.engine(n), self.seconds) for n in old}
        layout = self.task.vocabulary.layout
        pooled = pool(engines, layout, chunks, self._scheme(), new, old)
        more = _count_pooled(chunks, pooled, len(engines))
        counts.update(more)
        self.tokens["scored_tokens"] += more["scored_tokens"]
        return pooled

    @cached_property
    def allocation(self) -> np.ndarray:
        """[chunks] how many thoughts each chunk of the corpus gets."""
        return thoughts_per_chunk(self.task, self.num_chunks)

    def statistics(self) -> dict[str, float]:
        """Of this task up to now: seconds, tokens per second, and the share of the time spent loading."""
        seconds = self.seconds
        return {
            **{f"seconds_{name}": seconds[name] for name in ("load", "sample", "score")},
            "sampled_tokens_per_second": self.tokens["sampled_tokens"] / (seconds["sample"] or 1.0),
            "scored_tokens_per_second": self.tokens["scored_tokens"] / (seconds["score"] or 1.0),
            "load_share": seconds["load"] / (sum(seconds.values()) or 1.0),
        }

    def precision(self, chunks: list[Chunk], proposals: list[Proposals]) -> dict[str, Any] | None:
        """Once a task, in few of the tasks: what float32 would have changed in a few chunks; None where
        sampling is in float32, or this task has told already."""
        config = self.task.plan.config
        count = config.sample.precision_chunks
        if self.checked or count == 0 or config.sample.dtype == "float32":
            return None
        if not compares(self.task.shards, self.task.stage.shards):
            return None
        self.checked = True
        try:
            measured = precision.measure(
                load_reference(config, self.task.folder("model")),
                self.task.vocabulary.layout,
                chunks[:count],
                proposals[:count],
                self._scheme(),
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

    def _scheme(self) -> Scheme:
        settings, eol = self.task.plan.config.sample, self.task.vocabulary.layout.eol
        return Scheme(
            SamplingParams(
                settings.max_thought_tokens, eol, settings.temperature, settings.top_p, settings.top_k
            ),
            settings.prior_share,
        )


@dataclass
class _Timed:
    """An engine that adds up how many seconds it samples and scores."""

    engine: Engine
    seconds: dict[str, float]

    @property
    def attention(self) -> str:
        return self.engine.attention

    def sample(
        self, prompts: Sequence[Ids], seeds: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        started = time.monotonic()
        completions = self.engine.sample(prompts, seeds, params)
        self.seconds["sample"] += time.monotonic() - started
        return completions

    def score(
        self,
        prefixes: Sequence[Ids],
        continuations: Sequence[Sequence[Ids]],
        params: SamplingParams | None = None,
    ) -> list[list[np.ndarray]]:
        started = time.monotonic()
        scores = self.engine.score(prefixes, continuations, params)
        self.seconds["score"] += time.monotonic() - started
        return scores


def _count(chunks: list[Chunk], proposals: list[Proposals], scheme: Scheme) -> Counter[str]:
    """Of a block: how many, and the tokens that went through the model."""
    counts = Counter(chunks=len(chunks))
    for chunk, of_chunk in zip(chunks, proposals, strict=True):
        lengths = [len(thought) for thought in of_chunk.thoughts]
        prefix, suffix = len(chunk.prefix), len(chunk.suffix)
        counts["cut_prefixes"] += chunk.num_cut > 0
        counts["samples"] += len(lengths)
        counts["sampled_tokens"] += sum(lengths)
        counts["cut"] += int(of_chunk.cut.sum())
        counts["scored_tokens"] += sum(lengths) + len(lengths) * suffix
        num_prior = scheme.num_prior(len(lengths))
        counts["scored_tokens"] += sum(lengths[len(lengths) - num_prior :])
        # One prompt to sample from and one to score after, or both for each where some are from the prior.
        prompts = prefix + suffix + NUM_MARKERS - 1 + prefix + NUM_JOINT_MARKERS - 1
        counts["prompt_tokens"] += prompts * (2 if num_prior else 1)
    return counts


def _count_pooled(chunks: list[Chunk], pooled: list[Proposals], models: int) -> Counter[str]:
    """What pooling the thoughts of a block adds: each is scored by all models but the one that drew it, and
    each that is not new once more with its chunk after it."""
    counts: Counter[str] = Counter()
    for chunk, one in zip(chunks, pooled, strict=True):
        assert one.drawn is not None
        lengths = np.array([len(ids) for ids in one.thoughts])
        old = lengths[one.drawn != one.drawn[0]]
        prefix, suffix = len(chunk.prefix), len(chunk.suffix)
        counts["reused"] += len(old)
        counts["scored_tokens"] += int(lengths.sum()) * (models - 1) + int((old + suffix).sum())
        counts["prompt_tokens"] += (
            models * (prefix + suffix + NUM_MARKERS - 1) + prefix + NUM_JOINT_MARKERS - 1
        )
    return counts


def _columns(chunks: list[Chunk], documents: list[int], proposals: list[Proposals]) -> dict[str, list[Any]]:
    """Of `tables.POOLED`; where all are new, the last one is left out."""
    sums = ("log_q", "log_prior", "log_likelihood", "log_proposal")
    return {
        "chunk": [chunk.chunk_id for chunk in chunks],
        "document": documents,
        "thoughts": [[thought.tolist() for thought in p.thoughts] for p in proposals],
        "cut": [p.cut.tolist() for p in proposals],
        **{name: [getattr(p, name).tolist() for p in proposals] for name in sums},
        "suffix_length": [len(chunk.suffix) for chunk in chunks],
        "drawn": [None if p.drawn is None else p.drawn.tolist() for p in proposals],
    }
